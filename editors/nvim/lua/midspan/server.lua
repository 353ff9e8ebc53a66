--- The server's program: found, asked, started anew.

local status = require('midspan.status')

local M = {}

local OLDEST = '0.1.0'

-- As often as this within that time a server that stops by itself is started again.
local RESTARTS, WITHIN_MS = 4, 180000
local PATIENCE_MS = 5000
local SIGTERM = 15

---@type integer[] When servers stopped by themselves, in milliseconds.
local crashes = {}

---@type table<integer, boolean> Clients that are to be started again when they have ended.
local restarting = {}

---@class midspan.Exit
---@field code integer
---@field signal integer
---@field client? vim.lsp.Client
---@field buffers integer[] Those it was attached to.

--- The server in a buffer.
---@param buffer integer
---@return vim.lsp.Client?
function M.client(buffer)
  return vim.lsp.get_clients({ bufnr = buffer, name = 'midspan' })[1]
end

--- What is wrong with a version of midspan, and the fix; nil for one that this plugin can speak to.
---@param version string|vim.Version
---@return string?
function M.too_old(version)
  local found = vim.version.lt(version, OLDEST)
  return found and ('midspan %s is older than %s: run pip install --upgrade midspan'):format(version, OLDEST) or nil
end

--- The command that starts the server, as it is configured; a function where the user connects in another way.
---@return string[]|function|nil
function M.configured()
  local client = vim.lsp.get_clients({ name = 'midspan' })[1]
  local config = client and client.config or vim.lsp.config.midspan
  return config and config.cmd
end

--- What is wrong with the program that is configured, and the fix; nil where it is there, or none is to be started.
---@return string?
function M.missing()
  local configured = M.configured()
  if type(configured) ~= 'table' or vim.fn.executable(configured[1]) == 1 then
    return nil
  end
  local fix = "install midspan, or name its program in setup({ config = { cmd = { '/path/to/midspan', 'serve' } } })"
  return ('there is no program %s: %s'):format(configured[1], fix)
end

--- How the server's program is asked for another of its commands than `serve`, with the same options.
---@param ... string Such as 'doctor', '--json'.
---@return string[]? command Nil where there is none.
---@return string? trouble Why, and the fix.
function M.command(...)
  local configured = M.configured()
  if type(configured) ~= 'table' then
    return nil, ('config.cmd is no command line: run midspan %s in a shell'):format((...))
  end
  local trouble = M.missing()
  if trouble then
    return nil, trouble
  end
  local before, behind, found = {}, {}, false
  for _, one in ipairs(configured) do
    if one == 'serve' and not found then
      found = true
    elseif one ~= '--debug' then
      -- What only `serve` knows stays out.
      table.insert(found and behind or before, one)
    end
  end
  return vim.iter({ before, { ... }, behind }):flatten():totable()
end

--- Runs a command of the server's program beside Neovim.
---@param command string[]
---@param done fun(ended: vim.SystemCompleted)
---@return vim.SystemObj
function M.run(command, done)
  -- Python would import what lies in the folder that it starts in: never the user's.
  local folder = vim.fn.stdpath('cache') --[[@as string]]
  vim.fn.mkdir(folder, 'p')
  return vim.system(command, { text = true, cwd = folder }, vim.schedule_wrap(done))
end

--- Asks the server one of its own commands.
---@param client vim.lsp.Client
---@param command string
---@param arguments any[]
---@param answered fun(result: any)
function M.ask(client, command, arguments, answered)
  local params = { command = command, arguments = arguments }
  client:request('workspace/executeCommand', params, function(err, result)
    if err then
      vim.notify(('midspan: %s'):format(err.message), vim.log.levels.ERROR)
    else
      answered(result)
    end
  end)
end

--- Changes settings of the servers that run, until they end.
---@param changed table<string, any>
function M.change(changed)
  for _, client in ipairs(vim.lsp.get_clients({ name = 'midspan' })) do
    -- Neovim sends these to whatever server takes this one's place.
    client.settings = vim.tbl_deep_extend('force', client.settings, { midspan = changed })
    client.config.settings = client.settings
    client:notify('workspace/didChangeConfiguration', { settings = client.settings })
  end
end

--- Starts a server like one that has ended, in its buffers.
---@param exit midspan.Exit
local function start_again(exit)
  local config = assert(exit.client).config
  for _, buffer in ipairs(exit.buffers) do
    if vim.api.nvim_buf_is_loaded(buffer) then
      vim.lsp.start(config, { bufnr = buffer })
    end
  end
end

---@param exit midspan.Exit
---@return boolean again Whether it may be started again.
---@return string? trouble What to say.
local function crashed(exit)
  local how = exit.signal ~= 0 and ('signal %d'):format(exit.signal) or ('exit code %d'):format(exit.code)
  if not exit.client or not exit.client.initialized then
    return false, ('the server ended as it started, by %s; :Midspan log says why'):format(how)
  end
  local now = vim.uv.now()
  table.insert(crashes, now)
  crashes = vim.tbl_filter(function(at)
    return now - at < WITHIN_MS
  end, crashes)
  if #crashes > RESTARTS then
    local often = ('the server stopped %d times in three minutes'):format(#crashes)
    return false, often .. '; :Midspan log says why, :Midspan restart starts it'
  end
  return true, ('the server had stopped, by %s, and was started again'):format(how)
end

--- A server has ended: by itself, or as it was told to.
---@param exit midspan.Exit
function M.exited(exit)
  local id = exit.client and exit.client.id or -1
  if type(vim.v.exiting) == 'number' then
    return
  elseif restarting[id] then
    restarting[id] = nil
    status.forget(id)
    start_again(exit)
  elseif exit.code == 0 and (exit.signal == 0 or exit.signal == SIGTERM) then
    status.forget(id)
  elseif vim.lsp.is_enabled('midspan') then
    local again, words = crashed(exit)
    status.forget(id, not again and words or nil)
    if again then
      start_again(exit)
    end
    vim.notify('midspan: ' .. words, again and vim.log.levels.WARN or vim.log.levels.ERROR)
  end
end

--- Ends every server and starts it anew; starts one where none runs.
function M.restart()
  crashes = {}
  local clients = vim.lsp.get_clients({ name = 'midspan' })
  for _, client in ipairs(clients) do
    restarting[client.id] = true
    client:stop(PATIENCE_MS)
  end
  if #clients == 0 then
    -- For the buffers that are open already.
    vim.lsp.enable('midspan')
  end
end

return M
