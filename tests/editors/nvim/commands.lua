--- Sessions of `:Midspan` and its subcommands.

local M = {}

--- The lines of the window that a command has opened, once it is there; closes it with `q`.
---@param driver table
---@param first integer The window that was there before.
---@return string[]
local function opened(driver, first)
  driver.await('a window', function()
    return vim.api.nvim_get_current_win() ~= first
  end)
  local lines = driver.buffer()
  vim.api.nvim_input('q')
  driver.await('the window to close', function()
    return vim.api.nvim_get_current_win() == first
  end)
  return lines
end

function M.status(driver, seen)
  driver.ready()
  vim.cmd('Midspan status')
  vim.cmd('Midspan')
  vim.cmd.enew()
  vim.cmd('Midspan status')
  seen.messages = driver.messages()
  vim.cmd.buffer('#')
end

function M.names(driver, seen)
  driver.ready()
  seen.all = vim.fn.getcompletion('Midspan ', 'cmdline')
  seen.some = vim.fn.getcompletion("'<,'>Midspan re", 'cmdline')
  seen.toggles = vim.fn.getcompletion('Midspan toggle ', 'cmdline')
  seen.buffer = vim.fn.getcompletion('Midspan toggle b', 'cmdline')
  seen.none = vim.fn.getcompletion('Midspan status ', 'cmdline')
  vim.api.nvim_input(':Midspan statsu<CR>:Midspan toggle all<CR>')
  driver.said('no toggle')
  seen.messages = driver.messages()
end

function M.why(driver, seen)
  driver.ready()
  vim.cmd('Midspan why')
  driver.said('nothing has been asked for')
  vim.api.nvim_input('Aempty')
  driver.await('an answer', driver.answered)
  driver.normal()
  vim.cmd('Midspan why')
  driver.said('the model saw nothing likely enough here')
  vim.cmd('Midspan toggle')
  vim.cmd('Midspan why')
  driver.said('suggestions are off here')
  seen.ghost = driver.ghost()
end

--- Off: nothing is asked. On again: ghost text comes.
function M.toggle(driver, seen)
  driver.ready()
  driver.type_at(1, 'x = ')
  driver.normal()
  vim.cmd('Midspan toggle')
  seen.asked = 0
  vim.api.nvim_create_autocmd('LspRequest', {
    callback = function(event)
      seen.asked = seen.asked + (event.data.request.method == 'textDocument/inlineCompletion' and 1 or 0)
    end,
  })
  seen.key_when_off = driver.press('A<Tab>')[1]
  driver.normal()
  seen.statusline_when_off = require('midspan').statusline()
  seen.asked_when_off = seen.asked
  vim.cmd('Midspan toggle')
  seen.ghost = driver.type_at(2, 'y = ')
  driver.normal()
  seen.messages = driver.messages()
end

--- The other buffer goes on.
function M.toggle_buffer(driver, seen)
  driver.ready()
  vim.cmd('Midspan toggle buffer')
  seen.here = require('midspan').statusline()
  local first = vim.api.nvim_get_current_buf()
  vim.cmd.edit(driver.case.file .. '.other.py')
  driver.ready()
  vim.api.nvim_input('ione<CR>two<Esc>')
  driver.await('two lines', function()
    return #driver.buffer() == 2
  end)
  seen.ghost = driver.type_at(2, ' = ')
  driver.normal()
  vim.cmd('silent write!')
  seen.there = require('midspan').statusline()
  vim.cmd.buffer(first)
  vim.cmd('Midspan toggle buffer')
  seen.again = require('midspan').statusline()
  vim.cmd('Midspan toggle buffer')
  vim.cmd('Midspan toggle')
  vim.cmd('Midspan toggle')
  seen.everywhere = require('midspan').statusline()
end

function M.toggle_quiet(driver, seen)
  driver.ready()
  vim.cmd('Midspan toggle quiet')
  vim.api.nvim_input('Ax = ')
  driver.await('an answer', driver.answered)
  seen.unasked = driver.ghost()
  vim.api.nvim_input('<M-Bslash>')
  seen.asked = driver.await('ghost text', driver.ghost)
  driver.normal()
  vim.cmd('Midspan why')
  driver.said('`quiet` is on')
  vim.cmd('Midspan toggle quiet')
  seen.after = driver.type_at(2, 'y = ')
  driver.normal()
end

function M.toggle_language(driver, seen)
  local client = driver.ready()
  vim.cmd('Midspan toggle language')
  driver.said('python is off')
  vim.cmd('Midspan why')
  driver.said('no fills in python')
  vim.cmd('Midspan toggle language')
  driver.said('python is on')
  require('midspan.server').ask(client, 'midspan.languagesOn', { { 'go', 'python', 'rust' } }, function(on)
    seen.on = on
  end)
  seen.ghost = driver.type_at(1, 'x = ')
  driver.normal()
end

function M.doctor(driver, seen)
  driver.ready()
  local first = vim.api.nvim_get_current_win()
  vim.cmd('Midspan doctor')
  seen.lines = opened(driver, first)
end

function M.report(driver, seen)
  local client = driver.ready()
  local first = vim.api.nvim_get_current_win()
  driver.type_at(1, 'x = ')
  driver.press('<Tab>')
  driver.normal()
  driver.await('the acceptance', function()
    return next(client.requests) == nil
  end)
  vim.cmd('Midspan report --since 1h')
  seen.lines = opened(driver, first)
end

function M.log(driver, seen)
  driver.ready()
  vim.cmd('Midspan log')
  seen.file = vim.api.nvim_buf_get_name(0)
  seen.expected = vim.fn.resolve(vim.lsp.log.get_filename())
  seen.file = vim.fn.resolve(seen.file)
  vim.cmd.close()
end

--- Another process serves the same buffers, with the settings that were changed since.
function M.restart(driver, seen)
  local before = driver.ready()
  vim.cmd.split(driver.case.file .. '.other.py')
  driver.ready()
  vim.cmd('Midspan toggle quiet')
  vim.cmd('Midspan restart')
  local after = driver.await('another client', function()
    local client = vim.lsp.get_clients({ bufnr = 0, name = 'midspan' })[1]
    return client
      and client.id ~= before.id
      and client.initialized
      and vim.tbl_count(client.attached_buffers) == 2
      and client
  end)
  driver.ready()
  seen.clients = #vim.lsp.get_clients({ name = 'midspan' })
  vim.cmd.close()
  vim.cmd('Midspan why')
  driver.said('`quiet` is on')
  seen.stopped, seen.other = before:is_stopped(), after.id ~= before.id
end

--- No program is there by that name.
function M.no_program(driver, seen)
  driver.said('there is no program')
  seen.at_first = driver.messages()
  vim.cmd('messages clear')
  vim.cmd('Midspan status')
  seen.status = driver.messages()
  vim.cmd('messages clear')
  vim.api.nvim_input(':Midspan doctor<CR>')
  driver.said('there is no program')
  seen.doctor = driver.messages()
  seen.statusline = require('midspan').statusline()
  vim.cmd.enew()
  seen.elsewhere = require('midspan').statusline()
end

return M
