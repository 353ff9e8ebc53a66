--- Drives a real Neovim through one inline completion: attach, type, see ghost text, accept key by key, undo, leave.
--- MIDSPAN_CASE names a JSON file with the fields of class Case. What was seen is written to `result` as JSON.

---@class Case
---@field plugin string Folder put on the runtimepath.
---@field command string[] The server's command line.
---@field settings table<string, any> The server's initialization options.
---@field file string
---@field row integer 1-based row at whose end the text is typed.
---@field typed string
---@field keys string[] Keys to press, each once the text has its ghost text; with + in front at once.
---@field loads boolean Whether to await the end of the server's progress before typing.
---@field timeout_ms integer For each wait.
---@field result string

local driver = dofile(vim.fs.joinpath(vim.fs.dirname(debug.getinfo(1, 'S').source:sub(2)), 'driver.lua'))
---@type Case
local case, seen = driver.case, driver.seen
local await, buffer = driver.await, driver.buffer
local loaded = not case.loads
local answered_tick = -1

---@return string[]? lines
local function ghost()
  local space = vim.api.nvim_get_namespaces()['nvim.lsp.inline_completion']
  local mark = vim.api.nvim_buf_get_extmarks(0, space, 0, -1, { details = true })[1]
  if not mark then
    return nil
  end
  local lines = { mark[4].virt_text or {}, unpack(mark[4].virt_lines or {}) }
  return vim.tbl_map(function(chunks)
    return table.concat(vim.tbl_map(function(chunk)
      return chunk[1]
    end, chunks))
  end, lines)
end

--- Keeps the changedtick of the newest answered request, because ghost text of an older one may still be shown.
local function follow_requests()
  local tick_asked = {}
  vim.api.nvim_create_autocmd('LspRequest', {
    ---@param event { data: { request_id: integer, request: { type: string, method: string } } }
    callback = function(event)
      local id, request = event.data.request_id, event.data.request
      if request.method == 'textDocument/inlineCompletion' and request.type == 'pending' then
        tick_asked[id] = vim.b.changedtick
      elseif request.type == 'complete' then
        answered_tick = tick_asked[id] or answered_tick
      end
    end,
  })
end

---@return string[]?
local function ghost_for_this_text()
  return answered_tick == vim.b.changedtick and ghost() or nil
end

---@param keys string
---@return string[] buffer
local function press(keys)
  local before = buffer()
  vim.api.nvim_input(keys)
  await('what ' .. keys .. ' gives', function()
    return not vim.deep_equal(buffer(), before)
  end)
  return buffer()
end

local function session()
  local client = driver.attached()
  await('inline completion in the buffer', function()
    return vim.api.nvim_get_autocmds({ event = 'InsertEnter', buffer = 0 })[1]
  end)
  await('the model', function()
    return loaded
  end)
  vim.api.nvim_win_set_cursor(0, { case.row, 0 })
  vim.api.nvim_input('A' .. case.typed)
  await('the typed text', function()
    return vim.endswith(buffer()[case.row], case.typed)
  end)
  seen.steps = {}
  for number, key in ipairs(case.keys) do
    local at_once = vim.startswith(key, '+')
    local shown = not at_once and await('ghost text', ghost_for_this_text)
    seen.ghost = seen.ghost or shown
    seen.before = number == 1 and buffer() or seen.before
    seen.steps[number] = press(at_once and key:sub(2) or key)
  end
  seen.after = buffer()
  vim.api.nvim_input('<Esc>')
  seen.undone = press('u')
  press('<C-r>')
  vim.api.nvim_input('Go<Tab><Esc>')
  await('a plain tab', function()
    return #buffer() > #seen.after and vim.api.nvim_get_mode().mode == 'n'
  end)
  seen.fallback = buffer()[#buffer()]
  await('the accept command', function()
    return next(client.requests) == nil
  end)
  driver.stop(client)
end

follow_requests()
vim.api.nvim_create_autocmd('LspProgress', {
  pattern = 'end',
  callback = function()
    loaded = true
  end,
})
driver.start(session)
