--- The command `:Midspan` and the <Plug> mappings: names alone. What they do is loaded when they are used.

if vim.g.loaded_midspan then
  return
end
vim.g.loaded_midspan = true

vim.api.nvim_create_user_command('Midspan', function(call)
  require('midspan.commands').run(call)
end, {
  nargs = '*',
  range = true,
  desc = 'midspan: status, doctor, report, why, toggle, restart, log, rewrite, fix',
  complete = function(lead, line)
    return require('midspan.commands').complete(lead, line)
  end,
})

for _, name in ipairs({ 'accept', 'accept-word', 'accept-line', 'next', 'prev', 'dismiss', 'ask' }) do
  vim.keymap.set('i', ('<Plug>(midspan-%s)'):format(name), function()
    require('midspan.keys').plug(name)
  end, { desc = ('midspan: %s'):format(name) })
end

for _, name in ipairs({ 'rewrite', 'fix' }) do
  vim.keymap.set({ 'n', 'x' }, ('<Plug>(midspan-%s)'):format(name), function()
    require('midspan')[name]()
  end, { desc = ('midspan: %s'):format(name) })
end
