--- What loading does: nothing but names, until something is asked for. Prints what was found as JSON.

---@return table<string, any>
local function now()
  local commands = vim.tbl_keys(vim.api.nvim_get_commands({}))
  table.sort(commands)
  local plugs = {}
  for _, mode in ipairs({ 'i', 'n', 'x' }) do
    for _, map in ipairs(vim.api.nvim_get_keymap(mode)) do
      if map.lhs:find('midspan') then
        table.insert(plugs, mode .. map.lhs)
      end
    end
  end
  table.sort(plugs)
  return {
    autocommands = #vim.api.nvim_get_autocmds({}),
    commands = commands,
    plugs = plugs,
    clients = #vim.lsp.get_clients({ _uninitialized = true }),
    enabled = vim.lsp.is_enabled('midspan'),
    loaded = vim.tbl_filter(function(name)
      return vim.startswith(name, 'midspan')
    end, vim.tbl_keys(package.loaded)),
  }
end

-- Neovim's own part, which is loaded when it is first used, has an autocommand.
assert(vim.lsp.get_clients())
vim.opt.runtimepath:append(vim.env.MIDSPAN_PLUGIN)
local seen = { before = now() }
vim.cmd.runtime('plugin/midspan.lua')
seen.sourced = now()
local modules = {}
for name in vim.fs.dir(vim.env.MIDSPAN_PLUGIN .. '/lua/midspan') do
  table.insert(modules, name == 'init.lua' and 'midspan' or 'midspan.' .. name:gsub('%.lua$', ''))
end
vim.iter(modules):each(require)
seen.required = now()
seen.modules = #modules
seen.defaults = vim.iter(pairs(require('midspan.settings').defaults)):fold({}, function(all, name, value)
  all[name] = vim.inspect(value)
  return all
end)
vim.fn.writefile({ vim.json.encode(seen) }, vim.env.MIDSPAN_RESULT)
vim.cmd.cquit({ count = 0 })
