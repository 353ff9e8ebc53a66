--- Plays one session in a real Neovim: MIDSPAN_CASE names a JSON file with what is in class Case.

---@class Case
---@field plugin string Folder put on the runtimepath.
---@field command string[] The server's command line.
---@field settings table<string, any> The server's initialization options.
---@field options table<string, any> What else `setup` is given.
---@field file string
---@field script string A Lua file that returns sessions by name.
---@field session string
---@field timeout_ms integer For each wait.
---@field result string

local here = vim.fs.dirname(debug.getinfo(1, 'S').source:sub(2))
local driver = dofile(vim.fs.joinpath(vim.fs.dirname(here), 'driver.lua'))

---@type table<string, fun(driver: table, seen: table<string, any>)>
local sessions = dofile(driver.case.script)

driver.follow_requests()
driver.start(function()
  local fine, trouble = xpcall(sessions[driver.case.session], debug.traceback, driver, driver.seen)
  if not fine then
    driver.leave(trouble)
  end
  local client = vim.lsp.get_clients({ name = 'midspan' })[1]
  if client then
    driver.stop(client)
  else
    driver.leave()
  end
end)
