--- Sessions in which the server ends by itself.

local M = {}

---@return integer[]
local function children()
  return vim.api.nvim_get_proc_children(vim.fn.getpid())
end

--- Kills the server; returns the client that takes its place.
---@param driver table
---@return vim.lsp.Client
local function kill(driver)
  local client = driver.attached()
  vim.uv.kill(children()[1], 'sigkill')
  return driver.await('another client', function()
    local other = vim.lsp.get_clients({ bufnr = 0, name = 'midspan' })[1]
    return other and other.id ~= client.id and other.initialized and other
  end)
end

function M.killed(driver, seen)
  driver.ready()
  driver.type_at(1, 'x = ')
  seen.before = require('midspan').statusline()
  kill(driver)
  driver.said('midspan: the server had stopped, by signal 9, and was started again')
  driver.ready()
  driver.normal()
  seen.ghost = driver.type_at(2, 'y = ')
  seen.taken = driver.press('<Tab>')
  driver.normal()
  seen.messages = driver.messages()
end

--- After too many times it is left alone, until the user wants it again.
function M.killed_often(driver, seen)
  driver.ready()
  for _ = 1, 4 do
    kill(driver)
  end
  vim.uv.kill(children()[1], 'sigkill')
  driver.said('the server stopped 5 times in three minutes; :Midspan log says why, :Midspan restart starts it')
  seen.clients = #vim.lsp.get_clients({ name = 'midspan' })
  seen.statusline = require('midspan').statusline()
  vim.cmd('Midspan status')
  vim.cmd('Midspan restart')
  driver.ready()
  seen.again = require('midspan').statusline()
  seen.messages = driver.messages()
end

--- A server that ends before it says anything is not tried again and again.
function M.ends_at_once(driver, seen)
  driver.said('midspan: the server ended as it started, by exit code 3; :Midspan log says why')
  seen.clients = #vim.lsp.get_clients({ name = 'midspan' })
end

--- One of an older midspan is told of.
function M.is_old(driver)
  driver.ready()
  driver.said('midspan 0.0.9 is older than 0.1.0: run pip install --upgrade midspan')
end

--- One that is told to stop stays stopped.
function M.told_to_stop(driver, seen)
  local client = driver.ready()
  client:stop()
  driver.await('the end', function()
    return client:is_stopped() and #vim.lsp.get_clients({ name = 'midspan', _uninitialized = true }) == 0
  end)
  seen.messages, seen.statusline = driver.messages(), require('midspan').statusline()
end

--- Every state that the statusline goes through, as the windows show it.
function M.statusline(driver, seen)
  vim.o.statusline = "%{v:lua.require'midspan'.statusline()}"
  seen.lines = {}
  vim.api.nvim_create_autocmd('User', {
    pattern = 'MidspanStatus',
    callback = function()
      table.insert(seen.lines, vim.trim(vim.api.nvim_eval_statusline(vim.o.statusline, { winid = 0 }).str))
    end,
  })
  driver.ready()
  vim.api.nvim_input('Aforever = ')
  driver.await('work', function()
    return seen.lines[#seen.lines] == 'midspan: working'
  end)
  driver.normal()
  driver.await('its end', function()
    return seen.lines[#seen.lines] == 'midspan: ready'
  end)
  vim.cmd('Midspan toggle')
  seen.paused = vim.api.nvim_eval_statusline(vim.o.statusline, { winid = 0 }).str
  vim.cmd('split | enew')
  seen.elsewhere = vim.api.nvim_eval_statusline(vim.o.statusline, { winid = 0 }).str
  -- This form is evaluated in the current window for all of them.
  local below = vim.fn.win_getid(2)
  seen.below = vim.api.nvim_eval_statusline("%!v:lua.require'midspan'.statusline()", { winid = below }).str
  vim.cmd.close()
end

return M
