--- Sessions of rewrites and fixes: chosen, shown as a diff, applied or discarded.

local M = {}

--- Chooses by title, in the place of a person before `vim.ui.select`.
---@param title string
---@param seen table<string, any>
local function choose(title, seen)
  ---@param items lsp.CodeAction[]
  vim.ui.select = function(items, options, chosen)
    seen.titles = vim.tbl_map(options.format_item, items)
    chosen(items[vim.fn.index(seen.titles, title) + 1])
  end
end

--- The preview as text: lines that go behind `-`, virtual ones behind `+`, changed words in brackets.
---@return string[]
local function picture()
  local space, out = vim.api.nvim_get_namespaces()['midspan.preview'], {}
  for row, line in ipairs(vim.api.nvim_buf_get_lines(0, 0, -1, true)) do
    local marks = vim.api.nvim_buf_get_extmarks(0, space, { row - 1, 0 }, { row - 1, -1 }, { details = true })
    local gone, words, come = false, {}, {}
    for _, mark in ipairs(marks) do
      local group = mark[4].hl_group
      gone = gone or group == 'MidspanGone'
      if group == 'MidspanGoneWord' then
        table.insert(words, { mark[3], mark[4].end_col })
      end
      for _, chunks in ipairs(mark[4].virt_lines or {}) do
        table.insert(come, '+' .. table.concat(vim.tbl_map(function(chunk)
          return chunk[2] == 'MidspanNewWord' and ('[%s]'):format(chunk[1]) or chunk[1]
        end, chunks)))
      end
    end
    for _, word in ipairs(vim.fn.reverse(words)) do
      line = line:sub(1, word[1]) .. '[' .. line:sub(word[1] + 1, word[2]) .. ']' .. line:sub(word[2] + 1)
    end
    table.insert(out, (gone and '-' or ' ') .. line)
    vim.list_extend(out, come)
  end
  return out
end

---@param driver table
local function preview(driver)
  driver.await('the preview', function()
    return require('midspan.preview').is_shown(vim.api.nvim_get_current_buf())
  end)
end

--- Selects `a + b` in the second line and runs a command on it.
---@param driver table
---@param command string
local function on_selection(driver, command)
  vim.fn.cursor(2, vim.fn.getline(2):find('a + b', 1, true))
  vim.api.nvim_input('v4l' .. command)
end

function M.accepted(driver, seen)
  driver.ready()
  choose('refill the selection', seen)
  on_selection(driver, ':Midspan rewrite<CR>')
  preview(driver)
  seen.picture, seen.before = picture(), driver.buffer()
  seen.after = driver.press('<CR>')
  seen.marks = #vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_get_namespaces()['midspan.preview'], 0, -1, {})
  seen.undone = driver.press('u')
  seen.keys = { vim.fn.maparg('<CR>', 'n'), vim.fn.maparg('<Esc>', 'n') }
end

--- By the <Plug> mapping in visual mode; discarded, the buffer and its keys are as they were.
function M.discarded(driver, seen)
  driver.ready()
  choose('refill the selection', seen)
  vim.keymap.set('n', '<CR>', 'idone<Esc>', { buffer = 0 })
  vim.keymap.set('x', 'gm', '<Plug>(midspan-rewrite)', { remap = true })
  on_selection(driver, 'gm')
  preview(driver)
  local before = driver.buffer()
  vim.api.nvim_input('<Esc>')
  driver.await('no preview', function()
    return not require('midspan.preview').is_shown(vim.api.nvim_get_current_buf())
  end)
  seen.unchanged = vim.deep_equal(driver.buffer(), before)
  seen.marks = #vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_get_namespaces()['midspan.preview'], 0, -1, {})
  vim.api.nvim_win_set_cursor(0, { 5, 0 })
  seen.own_key = driver.press('<CR>')[5]
end

--- A change of the text takes the preview away.
function M.outdated(driver, seen)
  driver.ready()
  choose('refill the selection', seen)
  on_selection(driver, ':Midspan rewrite<CR>')
  preview(driver)
  driver.press('ggOfirst<Esc>')
  driver.await('no preview', function()
    return not require('midspan.preview').is_shown(vim.api.nvim_get_current_buf())
  end)
  seen.marks = #vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_get_namespaces()['midspan.preview'], 0, -1, {})
end

--- Without the preview it is applied at once.
function M.at_once(driver, seen)
  driver.ready()
  choose('refill the selection', seen)
  local before = driver.buffer()
  on_selection(driver, ':Midspan rewrite<CR>')
  seen.after = driver.await('the rewrite', function()
    return not vim.deep_equal(driver.buffer(), before) and driver.buffer()
  end)
  seen.undone = driver.press('u')
end

--- What another server finds wrong in the line is fixed.
function M.fixed(driver, seen)
  driver.ready()
  local space = vim.api.nvim_create_namespace('another')
  vim.diagnostic.set(space, 0, { { lnum = 1, col = 12, end_col = 13, message = 'no such name', severity = 1 } })
  vim.api.nvim_win_set_cursor(0, { 2, 0 })
  vim.cmd('Midspan fix')
  preview(driver)
  seen.picture = picture()
  seen.after = driver.press('<CR>')
end

--- Whole lines that come are shown below the line that they come behind.
function M.inserted(driver, seen)
  driver.ready()
  choose('write the docstring', seen)
  vim.api.nvim_win_set_cursor(0, { 1, 0 })
  vim.cmd('Midspan rewrite')
  preview(driver)
  seen.picture = picture()
  seen.after = driver.press('<CR>')
end

--- Too much is refused with how much may be selected.
function M.too_long(driver, seen)
  driver.ready()
  choose('refill the selection', seen)
  vim.api.nvim_input('ggVG:Midspan rewrite<CR>')
  driver.said('midspan: select at most 4000 characters')
end

--- Where there is nothing to do that is said; also when the server refuses.
function M.nothing(driver, seen)
  driver.ready()
  vim.cmd('Midspan fix')
  driver.said('midspan: nothing to write here')
  choose('refill the selection', seen)
  vim.api.nvim_buf_set_lines(0, 1, 2, true, { '    empty = a + b' })
  on_selection(driver, ':Midspan rewrite<CR>')
  driver.said('the model has nothing better than what is there')
end

--- The diff itself, of texts that need no server.
function M.diffs(_, seen)
  local diff = require('midspan.diff')
  local function of(old, new)
    local hunks = diff.hunks(old, new)
    return vim.tbl_map(function(hunk)
      local gone = vim.list_slice(old, hunk.old_first, hunk.old_first + hunk.old_count - 1)
      local come = vim.list_slice(new, hunk.new_first, hunk.new_first + hunk.new_count - 1)
      local out, inn = diff.words(gone, come)
      return { gone = gone, come = come, out = out, inn = inn, at = hunk.old_first }
    end, hunks)
  end
  seen.two = of({ 'a = 1', 'same', 'b = é' }, { 'a = 2', 'same', 'b = ée' })
  seen.inserted = of({ 'one', 'two' }, { 'one', 'more', '', 'two' })
  seen.removed = of({ 'one', 'two' }, { 'two' })
  seen.first = of({ 'two' }, { 'one', 'two' })
  seen.joined = of({ 'f(a,', '  b)' }, { 'f(a, b)' })
end

return M
