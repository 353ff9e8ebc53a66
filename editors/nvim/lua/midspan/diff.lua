--- What differs between two texts: by lines, and within them by words. No buffer, no window.

local M = {}

---@class midspan.Hunk Lines from 1; a count of 0 stands behind the line that `first` names.
---@field old_first integer
---@field old_count integer
---@field new_first integer
---@field new_count integer

---@alias midspan.Ranges [integer, integer][] Byte ranges, from 0, the end exclusive.

--- The hunks that turn the old lines into the new ones, in order.
---@param old string[]
---@param new string[]
---@return midspan.Hunk[]
function M.hunks(old, new)
  local before, after = table.concat(old, '\n') .. '\n', table.concat(new, '\n') .. '\n'
  local found = vim.text.diff(before, after, { result_type = 'indices', algorithm = 'histogram' })
  ---@cast found integer[][]
  return vim.tbl_map(function(one)
    return { old_first = one[1], old_count = one[2], new_first = one[3], new_count = one[4] }
  end, found)
end

--- A text as words, runs of blanks, and single other characters.
---@param text string
---@return string[]
local function tokens(text)
  local out, at = {}, 1
  while at <= #text do
    local _, last = text:find('^[%w_\128-\255]+', at)
    if not last then
      _, last = text:find('^[ \t]+', at)
    end
    table.insert(out, text:sub(at, last or at))
    at = (last or at) + 1
  end
  return out
end

--- Tokens as lines of a text; a line's end is an empty one.
---@param list string[]
---@return string
local function as_lines(list)
  local lines = vim.tbl_map(function(token)
    return token == '\n' and '' or token
  end, list)
  return table.concat(lines, '\n') .. '\n'
end

---@param list string[]
---@param first integer
---@param count integer
---@return integer from
---@return integer to
local function span(list, first, count)
  local from = #table.concat(list, '', 1, first - 1)
  return from, from + #table.concat(list, '', first, first + count - 1)
end

--- A range of a text of several lines as ranges of each of them.
---@param lines string[]
---@param ranges midspan.Ranges
---@return midspan.Ranges[]
local function by_line(lines, ranges)
  local out, begin = {}, 0
  for number, line in ipairs(lines) do
    out[number] = {}
    for _, range in ipairs(ranges) do
      local from, to = math.max(range[1], begin), math.min(range[2], begin + #line)
      if from < to then
        table.insert(out[number], { from - begin, to - begin })
      end
    end
    begin = begin + #line + 1
  end
  return out
end

--- Which bytes of each line differ; none where all lines are gone or all are new.
---@param old string[]
---@param new string[]
---@return midspan.Ranges[] old
---@return midspan.Ranges[] new
function M.words(old, new)
  if #old == 0 or #new == 0 then
    return by_line(old, {}), by_line(new, {})
  end
  local before, after = tokens(table.concat(old, '\n')), tokens(table.concat(new, '\n'))
  local found = vim.text.diff(as_lines(before), as_lines(after), { result_type = 'indices' })
  ---@cast found integer[][]
  local gone, come = {}, {}
  for _, one in ipairs(found) do
    if one[2] > 0 then
      table.insert(gone, { span(before, one[1], one[2]) })
    end
    if one[4] > 0 then
      table.insert(come, { span(after, one[3], one[4]) })
    end
  end
  return by_line(old, gone), by_line(new, come)
end

return M
