--- Drives a real Neovim through one code action: attach, select, apply, undo once, leave.

---@class Case
---@field plugin string Folder put on the runtimepath.
---@field command string[] The server's command line.
---@field settings table<string, any> The server's initialization options.
---@field file string
---@field first integer[] 1-based row and 0-based column at which the selection begins.
---@field last integer[] Where it ends, exclusively.
---@field kind string The kind of the action that is applied.
---@field timeout_ms integer For each wait.
---@field result string

local driver = dofile(vim.fs.joinpath(vim.fs.dirname(debug.getinfo(1, 'S').source:sub(2)), 'driver.lua'))
---@type Case
local case = driver.case

local function session()
  local client = driver.attached()
  local before = driver.buffer()
  local function ask()
    vim.lsp.buf.code_action({
      apply = true,
      range = { start = case.first, ['end'] = case.last },
      context = { only = { case.kind }, diagnostics = {} },
      filter = function(action)
        driver.seen.title = driver.seen.title or action.title
        return action.title == driver.seen.title
      end,
    })
  end
  local asked_at = -math.huge
  driver.await('the rewritten text', function()
    -- No action is offered before the model is loaded.
    if not driver.seen.title and vim.uv.now() > asked_at + 500 then
      asked_at = vim.uv.now()
      ask()
    end
    return not vim.deep_equal(driver.buffer(), before)
  end)
  driver.seen.after = driver.buffer()
  vim.cmd.undo()
  driver.seen.undone = driver.buffer()
  driver.stop(client)
end

driver.start(session)
