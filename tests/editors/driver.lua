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

--- Starts the server on the case's file, and calls `session` in a coroutine.
---@param session fun()
function M.start(session)
  vim.opt.runtimepath:append(M.case.plugin)
  require('midspan').setup({ config = { cmd = M.case.command, init_options = M.case.settings } })
  vim.cmd('filetype on')
  vim.cmd.edit(M.case.file)
  coroutine.wrap(session)()
end

--- Waits until the server is attached to the buffer.
---@return vim.lsp.Client
function M.attached()
  return M.await('the server to attach', function()
    return vim.lsp.get_clients({ bufnr = 0, name = 'midspan' })[1]
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
