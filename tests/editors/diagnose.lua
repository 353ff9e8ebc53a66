--- Drives a real Neovim with diagnostics of another server: attach, set one, see it passed on to midspan, leave.

---@class Case
---@field plugin string Folder put on the runtimepath.
---@field command string[] The server's command line.
---@field settings table<string, any> The server's initialization options.
---@field file string
---@field found table[] The diagnostics, as `vim.diagnostic.set` takes them.
---@field timeout_ms integer For each wait.
---@field result string

local driver = dofile(vim.fs.joinpath(vim.fs.dirname(debug.getinfo(1, 'S').source:sub(2)), 'driver.lua'))
local case, seen = driver.case, driver.seen

vim.api.nvim_create_autocmd('LspNotify', {
  ---@param event { data: { method: string, params: table } }
  callback = function(event)
    local params = event.data.params
    if event.data.method == 'midspan/diagnostics' and #params.diagnostics > 0 then
      seen.told = params
    end
  end,
})
driver.start(function()
  local client = driver.attached()
  vim.diagnostic.set(vim.api.nvim_create_namespace('another'), 0, case.found)
  driver.await('the diagnostics to be passed on', function()
    return seen.told
  end)
  driver.stop(client)
end)
