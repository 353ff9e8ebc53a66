--- Sessions of the insert-mode keys: what they take, and what they are where there is nothing to take.

local M = {}

---@param driver table
---@param text string[]
---@return string[]
local function showing(driver, text)
  return driver.await('the ghost text ' .. table.concat(text, '\\n'), function()
    local shown = driver.ghost()
    return vim.deep_equal(shown, text) and shown
  end)
end

---@param keys table<string, string> Plug names by key.
local function plug(keys)
  for key, name in pairs(keys) do
    vim.keymap.set('i', key, ('<Plug>(midspan-%s)'):format(name), { remap = true })
  end
end

function M.parts(driver, seen)
  plug({ ['<C-l>'] = 'accept', ['<C-f>'] = 'accept-word', ['<C-j>'] = 'accept-line' })
  driver.ready()
  seen.ghost = driver.type_at(2, '    ')
  seen.word = driver.press('<C-f>')
  driver.await('ghost text', driver.ghost_for_this_text)
  seen.line = driver.press('<C-j>')
  driver.await('ghost text', driver.ghost_for_this_text)
  seen.whole = driver.press('<C-l>')
  driver.normal()
  seen.undone = driver.press('u')
end

--- A word, then the rest of the line, behind what stands there.
function M.parts_behind(driver, seen)
  plug({ ['<C-f>'] = 'accept-word', ['<C-j>'] = 'accept-line' })
  driver.ready()
  driver.type_at(1, ' ')
  seen.word = driver.press('<C-f>')
  driver.await('ghost text', driver.ghost_for_this_text)
  seen.line = driver.press('<C-j>')
  driver.normal()
end

--- The next one, and the one before; then none at all.
function M.others(driver, seen)
  plug({ ['<C-n>'] = 'next', ['<C-p>'] = 'prev', ['<C-q>'] = 'dismiss' })
  driver.ready()
  seen.first = driver.type_at(1, 'several = ')
  vim.api.nvim_input('<C-n>')
  showing(driver, { 'slice (2/3)' })
  vim.api.nvim_input('<C-n>')
  showing(driver, { 'tuple (3/3)' })
  vim.api.nvim_input('<C-p>')
  showing(driver, { 'slice (2/3)' })
  vim.api.nvim_input('<C-q>')
  driver.await('no ghost text', function()
    return not driver.ghost()
  end)
  seen.kept = driver.buffer()
  driver.normal()
end

--- A suggestion below the threshold comes when it is asked for; where there is none that is said.
function M.ask(driver, seen)
  driver.ready()
  vim.api.nvim_input('Alow = ')
  driver.await('an answer', driver.answered)
  seen.unasked = driver.ghost()
  vim.api.nvim_input('<M-Bslash>')
  seen.asked = driver.await('ghost text', driver.ghost)
  driver.normal()
  vim.api.nvim_input('oempty = ')
  driver.await('an answer', driver.answered)
  vim.api.nvim_input('<M-Bslash>')
  driver.said('nothing to suggest here; :Midspan why says more')
  driver.normal()
end

--- An answer about a text that has changed since is not shown.
function M.ask_late(driver, seen)
  local client = driver.ready()
  vim.api.nvim_input('Aempty = ')
  driver.await('an answer', driver.answered)
  local request, answer = client.request, nil
  client.request = function(_, _, params, handler)
    answer = function()
      local range = { start = params.position, ['end'] = params.position }
      local context = { client_id = client.id, bufnr = vim.api.nvim_get_current_buf() }
      handler(nil, { { insertText = 'late', range = range } }, context)
    end
    return true, 1
  end
  require('midspan').ask()
  client.request = request
  answer()
  seen.in_time = driver.ghost()
  require('midspan').dismiss()
  driver.await('no ghost text', function()
    return not driver.ghost()
  end)
  vim.api.nvim_buf_set_lines(0, 1, 1, true, { 'another line' })
  answer()
  seen.late = driver.ghost()
  driver.normal()
end

--- Without a suggestion every key is what it was before midspan, whoever has mapped it and how.
function M.fall_through(driver, seen)
  driver.ready()
  plug({ ['<C-l>'] = 'accept' })
  seen.tab = driver.press('A<Tab>')
  vim.keymap.set('i', '<Tab>', 'global ')
  seen.global = driver.press('<Tab>')
  vim.keymap.set('i', '<Tab>', function()
    return 'expr<Space>'
  end, { expr = true })
  seen.expr = driver.press('<Tab>')
  vim.keymap.set('i', '<Tab>', function()
    vim.api.nvim_put({ 'callback ' }, 'c', true, true)
  end)
  seen.callback = driver.press('<Tab>')
  vim.cmd("inoremap <expr> <Tab> 'vim' .. 'script '")
  seen.script = driver.press('<Tab>')
  vim.cmd('imap <Tab> <C-g>')
  vim.cmd('inoremap <C-g> again')
  seen.remapped = driver.press('<Tab>')
  vim.keymap.set('i', '<C-l>', '<Plug>(midspan-accept)', { remap = true })
  seen.plug = driver.press('<C-l>')
  driver.normal()
end

--- The buffer's own mapping, made before the server came, is what the key falls through to, also after a restart.
function M.fall_through_own(driver, seen)
  vim.keymap.set('i', '<Tab>', 'own ', { buffer = 0 })
  local before = driver.ready()
  seen.own = driver.press('A<Tab>')
  driver.normal()
  vim.cmd('Midspan restart')
  driver.await('another client', function()
    local client = vim.lsp.get_clients({ bufnr = 0, name = 'midspan' })[1]
    return client and client.id ~= before.id
  end)
  driver.ready()
  seen.again = driver.press('A<Tab>')
  driver.normal()
end

--- A server inside Neovim that offers a snippet, as others do.
local function snippets()
  local answers = {
    initialize = { capabilities = { inlineCompletionProvider = true } },
    ['textDocument/inlineCompletion'] = { { insertText = { kind = 'snippet', value = 'call($1)' } } },
  }
  local function nothing() end
  vim.lsp.start({
    name = 'another',
    cmd = function()
      return {
        request = function(method, _, answered)
          vim.schedule(function()
            answered(nil, answers[method])
          end)
          return true, 1
        end,
        notify = nothing,
        is_closing = nothing,
        terminate = nothing,
      }
    end,
  })
end

--- What another server offers is taken as Neovim takes it.
function M.another_server(driver, seen)
  driver.ready()
  snippets()
  vim.api.nvim_input('Aempty = ')
  driver.await('ghost text', driver.ghost)
  seen.taken = driver.press('<Tab>')
  driver.normal()
end

--- A Neovim whose inline completion is not where 0.12 has it: what is public still works.
function M.another_neovim(driver, seen)
  require('midspan.ghost').of = function() end
  driver.ready()
  driver.type_at(1, 'x = ')
  seen.taken = driver.press('<Tab>')
  driver.normal()
  seen.tab = driver.press('A<Tab>')
  driver.normal()
  vim.cmd.checkhealth('midspan')
  seen.health = table.concat(driver.buffer(), '\n')
  vim.cmd.bwipeout({ bang = true })
end

--- Two windows show one buffer: what is taken goes where the cursor of the window is that is typed in.
function M.windows(driver, seen)
  driver.ready()
  vim.api.nvim_win_set_cursor(0, { 3, 2 })
  local lower = vim.api.nvim_get_current_win()
  vim.cmd.split()
  local upper = vim.api.nvim_get_current_win()
  seen.ghost = driver.type_at(1, 'x = ')
  seen.marks = #vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_get_namespaces()['nvim.lsp.inline_completion'], 0, -1, {})
  seen.taken = driver.press('<Tab>')
  driver.normal()
  seen.other_cursor = vim.api.nvim_win_get_cursor(lower)
  seen.cursor = vim.api.nvim_win_get_cursor(upper)
  vim.api.nvim_set_current_win(lower)
  driver.type_at(2, 'y = ')
  seen.both = driver.press('<Tab>')
  driver.normal()
end

return M
