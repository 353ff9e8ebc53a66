--- Shared by all drivers of a real Neovim: reads the case, waits without blocking, writes what was seen and quits.
--- MIDSPAN_CASE names a JSON file with the fields of the driver's class Case. `M.seen` is written to its `result`.

local M = { seen = {} }

---@param path string
---@return string
local function read(path)
  local file = assert(io.open(path))
  local text = file:read('a')
  file:close()
  return text
end

M.case = vim.json.decode(read(vim.env.MIDSPAN_CASE))

---@param trouble? string
function M.leave(trouble)
  M.seen.trouble = trouble
  local file = assert(io.open(M.case.result, 'w'))
  file:write(vim.json.encode(M.seen))
  file:close()
  vim.cmd.cquit({ count = trouble and 1 or 0, bang = true })
end

--- Suspends the running coroutine until `condition` is truthy and returns its value; on timeout leaves with `what`.
---@generic T
---@param what string
---@param condition fun(): T?
---@return T
function M.await(what, condition)
  local thread = assert(coroutine.running())
  local timer = assert(vim.uv.new_timer())
  local deadline = vim.uv.now() + M.case.timeout_ms
  local poll = vim.schedule_wrap(function()
    if timer:is_closing() then
      return
    end
    local value = condition()
    if value then
      timer:close()
      local fine, trouble = coroutine.resume(thread, value)
      if not fine then
        M.leave(debug.traceback(thread, trouble))
      end
    elseif vim.uv.now() > deadline then
      timer:close()
      M.leave('waited in vain for ' .. what)
    end
  end)
  timer:start(0, 10, poll)
  return coroutine.yield()
end

---@return string[]
function M.buffer()
  return vim.api.nvim_buf_get_lines(0, 0, -1, true)
end

--- Everything that Neovim has said.
---@return string
function M.messages()
  return vim.fn.execute('messages')
end

--- Waits until Neovim has said something, as plain text.
---@param words string
function M.said(words)
  M.await('the message: ' .. words, function()
    return M.messages():find(words, 1, true)
  end)
end

--- The ghost text, a line each.
---@return string[]?
function M.ghost()
  local space = vim.api.nvim_get_namespaces()['nvim.lsp.inline_completion']
  local mark = space and vim.api.nvim_buf_get_extmarks(0, space, 0, -1, { details = true })[1]
  return mark and M.drawn(mark)
end

--- The virtual text of an extmark, a line each.
---@param mark vim.api.keyset.get_extmark_item
---@return string[]
function M.drawn(mark)
  local lines = { mark[4].virt_text or {}, unpack(mark[4].virt_lines or {}) }
  return vim.tbl_map(function(chunks)
    return table.concat(vim.tbl_map(function(chunk)
      return chunk[1]
    end, chunks))
  end, lines)
end

local answered_tick = -1

--- Keeps the tick of the text that the newest answered request was about: ghost text of an older one may still stand.
function M.follow_requests()
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

--- Whether the server has answered about the text as it is now.
---@return boolean
function M.answered()
  return answered_tick == vim.b.changedtick
end

---@return string[]?
function M.ghost_for_this_text()
  return M.answered() and M.ghost() or nil
end

--- Presses keys, and waits until they have changed the buffer.
---@param keys string
---@return string[] buffer
function M.press(keys)
  local before = M.buffer()
  vim.api.nvim_input(keys)
  M.await('what ' .. keys .. ' gives', function()
    return not vim.deep_equal(M.buffer(), before)
  end)
  return M.buffer()
end

--- Waits until the server of this buffer is ready to be asked.
---@return vim.lsp.Client
function M.ready()
  local client = M.attached()
  M.await('the server to be ready', function()
    return require('midspan.status').of(0) == 'ready'
      and vim.api.nvim_get_autocmds({ event = 'InsertEnter', buffer = 0 })[1]
  end)
  return client
end

--- Types text at the end of a row, and waits for the ghost text behind it.
---@param row integer From 1.
---@param text string
---@return string[] ghost
function M.type_at(row, text)
  vim.api.nvim_win_set_cursor(0, { row, 0 })
  vim.api.nvim_input('A' .. text)
  M.await('the typed text', function()
    return vim.endswith(M.buffer()[row], text)
  end)
  return M.await('ghost text', M.ghost_for_this_text)
end

--- Leaves insert mode.
function M.normal()
  vim.api.nvim_input('<Esc>')
  M.await('normal mode', function()
    return vim.api.nvim_get_mode().mode == 'n'
  end)
end

--- Starts the server on the case's file, and calls `session` in a coroutine.
---@param session fun()
function M.start(session)
  vim.opt.runtimepath:append(M.case.plugin)
  local config = { cmd = M.case.command, init_options = M.case.settings }
  local options = vim.tbl_deep_extend('force', { config = config }, M.case.options or {})
  require('midspan').setup(options)
  vim.cmd('filetype on')
  vim.cmd.edit(M.case.file)
  coroutine.wrap(session)()
end

--- Waits until the server is attached to the buffer.
---@return vim.lsp.Client
function M.attached()
  return M.await('the server to attach', function()
    local client = vim.lsp.get_clients({ bufnr = 0, name = 'midspan' })[1]
    return client and client.initialized and client
  end)
end

---@param client vim.lsp.Client
function M.stop(client)
  client:stop()
  M.await('the server to end', function()
    return client:is_stopped()
  end)
  M.leave()
end

return M
