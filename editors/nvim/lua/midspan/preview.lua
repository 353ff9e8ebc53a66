--- A rewrite shown as a diff in its buffer, before it is applied: accepted or discarded by a key.

local diff = require('midspan.diff')
local settings = require('midspan.settings')

local M = {}

local space = vim.api.nvim_create_namespace('midspan.preview')
local LINKS = {
  MidspanGone = 'DiffDelete',
  MidspanGoneWord = 'DiffText',
  MidspanNew = 'DiffAdd',
  MidspanNewWord = 'DiffText',
}

---@class midspan.Shown
---@field buffer integer
---@field apply fun()
---@field restore fun()[] Gives the keys back what they were.

---@type midspan.Shown?
local shown = nil

--- A line in one colour, parts of it in another.
---@param line string
---@param ranges midspan.Ranges
---@param plain string
---@param marked string
---@return [string, string][]
local function chunks(line, ranges, plain, marked)
  local out, at = {}, 0
  for _, range in ipairs(ranges) do
    table.insert(out, { line:sub(at + 1, range[1]), plain })
    table.insert(out, { line:sub(range[1] + 1, range[2]), marked })
    at = range[2]
  end
  table.insert(out, { line:sub(at + 1), plain })
  return out
end

--- Draws a hunk: what goes in its own lines, what comes in virtual ones below.
---@param buffer integer
---@param first integer The row of the first old line, from 0.
---@param hunk midspan.Hunk
---@param old string[]
---@param new string[]
local function draw(buffer, first, hunk, old, new)
  local gone = vim.list_slice(old, hunk.old_first, hunk.old_first + hunk.old_count - 1)
  local come = vim.list_slice(new, hunk.new_first, hunk.new_first + hunk.new_count - 1)
  local gone_words, come_words = diff.words(gone, come)
  local top = first + hunk.old_first - 1
  for number, line in ipairs(gone) do
    local row = top + number - 1
    vim.api.nvim_buf_set_extmark(buffer, space, row, 0, {
      end_col = #line,
      hl_group = 'MidspanGone',
      line_hl_group = 'MidspanGone',
    })
    for _, range in ipairs(gone_words[number]) do
      vim.api.nvim_buf_set_extmark(buffer, space, row, range[1], {
        end_col = range[2],
        hl_group = 'MidspanGoneWord',
        priority = 5000,
      })
    end
  end
  local lines = {}
  for number, line in ipairs(come) do
    lines[number] = chunks(line, come_words[number], 'MidspanNew', 'MidspanNewWord')
  end
  -- Behind the last line that goes; an insertion names the line that it comes behind.
  local below = hunk.old_count > 0 and top + hunk.old_count - 1 or top
  vim.api.nvim_buf_set_extmark(buffer, space, math.max(below, 0), 0, {
    virt_lines = lines,
    virt_lines_above = below < 0,
  })
end

--- Maps a key of the buffer, and notes how to give it back.
---@param key string
---@param run fun()
---@param words string
local function map(key, run, words)
  local state = assert(shown)
  local buffer = state.buffer
  local before = vim.api.nvim_buf_call(buffer, function()
    return vim.fn.maparg(key, 'n', false, true)
  end)
  vim.keymap.set('n', key, run, { buffer = buffer, desc = words, nowait = true })
  table.insert(state.restore, function()
    vim.keymap.del('n', key, { buffer = buffer })
    if before.buffer == 1 then
      vim.api.nvim_buf_call(buffer, function()
        vim.fn.mapset('n', false, before)
      end)
    end
  end)
end

--- Whether a rewrite is shown in a buffer.
---@param buffer integer
---@return boolean
function M.is_shown(buffer)
  return shown ~= nil and shown.buffer == buffer
end

--- Takes the preview away; nothing is applied.
function M.discard()
  local state = shown
  shown = nil
  if state and vim.api.nvim_buf_is_valid(state.buffer) then
    vim.api.nvim_buf_clear_namespace(state.buffer, space, 0, -1)
    for _, restore in ipairs(state.restore) do
      restore()
    end
  end
end

--- Applies the rewrite that is shown: one undo step.
function M.accept()
  local state = shown
  M.discard()
  if state then
    state.apply()
  end
end

--- Shows what an edit would do to a buffer. A change of the buffer takes it away.
---@param buffer integer
---@param first integer The row of the first of the old lines, from 0.
---@param old string[]
---@param new string[]
---@param apply fun() Makes the edit.
function M.show(buffer, first, old, new, apply)
  M.discard()
  for name, link in pairs(LINKS) do
    vim.api.nvim_set_hl(0, name, { link = link, default = true })
  end
  local state = { buffer = buffer, apply = apply, restore = {} }
  shown = state
  for _, hunk in ipairs(diff.hunks(old, new)) do
    draw(buffer, first, hunk, old, new)
  end
  local accept, discard = settings.now.preview_accept, settings.now.preview_discard
  map(accept, M.accept, 'Apply the rewrite of midspan')
  map(discard, M.discard, 'Discard the rewrite of midspan')
  vim.api.nvim_buf_attach(buffer, false, {
    on_lines = function()
      if shown == state then
        vim.schedule(M.discard)
      end
      return true
    end,
    on_reload = function()
      vim.schedule(M.discard)
    end,
  })
  vim.api.nvim_echo({ { ('midspan: %s applies this, %s discards it'):format(accept, discard) } }, false, {})
end

return M
