--- Drives a real Neovim through one inline completion: attach, type, see ghost text, accept with Tab, leave.
--- MIDSPAN_CASE names a JSON file: what is in class Case. What was seen goes to `result` as JSON.

---@class Case
---@field plugin string Folder put on the runtimepath.
---@field command string[] The server's command line.
---@field settings table<string, any> The server's initialization options.
---@field file string
---@field row integer 1-based row at whose end the text is typed.
---@field typed string
---@field loads boolean Whether to await the end of the server's progress before typing.
---@field timeout_ms integer For each wait.
---@field result string

---@param path string
---@return string
local function read(path)
  local file = assert(io.open(path))
  local text = file:read('a')
  file:close()
  return text
end

---@type Case
local case = vim.json.decode(read(vim.env.MIDSPAN_CASE))
local seen = { before = {}, ghost = {}, after = {}, fallback = '' }
local loaded = not case.loads
local answered_tick = -1

---@param trouble? string
local function leave(trouble)
  seen.trouble = trouble
  local file = assert(io.open(case.result, 'w'))
  file:write(vim.json.encode(seen))
  file:close()
  vim.cmd.cquit({ count = trouble and 1 or 0, bang = true })
end

--- Suspends the running coroutine until `condition` is truthy, and returns its value; leaves with `what` when time is up.
---@generic T
---@param what string
---@param condition fun(): T?
---@return T
local function await(what, condition)
  local thread = assert(coroutine.running())
  local timer = assert(vim.uv.new_timer())
  local deadline = vim.uv.now() + case.timeout_ms
  local poll = vim.schedule_wrap(function()
    if timer:is_closing() then
      return
    end
    local value = condition()
    if value then
      timer:close()
      local fine, trouble = coroutine.resume(thread, value)
      if not fine then
        leave(debug.traceback(thread, trouble))
      end
    elseif vim.uv.now() > deadline then
      timer:close()
      leave('waited in vain for ' .. what)
    end
  end)
  timer:start(0, 10, poll)
  return coroutine.yield()
end

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

---@return string[]
local function buffer()
  return vim.api.nvim_buf_get_lines(0, 0, -1, true)
end

--- Keeps the tick of the text that the newest answered request was about: ghost text of an older one may still stand.
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
  return answered_tick == vim.b.changedtick and vim.endswith(buffer()[case.row], case.typed) and ghost() or nil
end

local function session()
  local client = await('the server to attach', function()
    return vim.lsp.get_clients({ bufnr = 0, name = 'midspan' })[1]
  end)
  await('inline completion in the buffer', function()
    return vim.api.nvim_get_autocmds({ event = 'InsertEnter', buffer = 0 })[1]
  end)
  await('the model', function()
    return loaded
  end)
  vim.api.nvim_win_set_cursor(0, { case.row, 0 })
  vim.api.nvim_input('A' .. case.typed)
  seen.ghost = await('ghost text', ghost_for_this_text)
  seen.before = buffer()
  vim.api.nvim_input('<Tab>')
  await('the accepted text', function()
    return not vim.deep_equal(buffer(), seen.before)
  end)
  seen.after = buffer()
  vim.api.nvim_input('<Esc>Go<Tab><Esc>')
  await('a plain tab', function()
    return #buffer() > #seen.after and vim.api.nvim_get_mode().mode == 'n'
  end)
  seen.fallback = buffer()[#buffer()]
  await('the accept command', function()
    return next(client.requests) == nil
  end)
  client:stop()
  await('the server to end', function()
    return client:is_stopped()
  end)
  leave()
end

follow_requests()
vim.opt.runtimepath:append(case.plugin)
vim.api.nvim_create_autocmd('LspProgress', {
  pattern = 'end',
  callback = function()
    loaded = true
  end,
})
require('midspan').setup({ config = { cmd = case.command, init_options = case.settings } })
vim.cmd('filetype on')
vim.cmd.edit(case.file)
coroutine.wrap(session)()
