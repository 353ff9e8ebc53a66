--- midspan in Neovim 0.12: starts the server, turns inline completion on where it attaches, and maps the accept key.

local M = {}

---@class midspan.Options
---@field accept string|false Insert-mode key that accepts the suggestion and is itself where there is none; false maps none.
---@field config vim.lsp.Config Merged over lsp/midspan.lua, for example `{ cmd = { '/path/to/midspan', 'serve' } }`.
local defaults = { accept = '<Tab>', config = {} }

---@param options table
---@return midspan.Options
local function checked(options)
  vim.validate('options', options, 'table')
  for key in pairs(options) do
    if defaults[key] == nil then
      error(('midspan: unknown option %q: use accept or config'):format(key), 0)
    end
  end
  local merged = vim.tbl_extend('force', defaults, options)
  vim.validate('accept', merged.accept, function(accept)
    return accept == false or type(accept) == 'string'
  end, 'a key such as <Tab>, or false')
  vim.validate('config', merged.config, 'table')
  return merged
end

---@param buffer integer
---@param key string
local function map_accept(buffer, key)
  vim.keymap.set('i', key, function()
    return vim.lsp.inline_completion.get() and '' or key
  end, { buffer = buffer, expr = true, desc = 'Accept the midspan suggestion' })
end

---@param options? midspan.Options
function M.setup(options)
  if vim.fn.has('nvim-0.12') == 0 then
    error('midspan needs Neovim 0.12 or newer for vim.lsp.inline_completion', 0)
  end
  local chosen = checked(options or {})
  vim.api.nvim_create_autocmd('LspAttach', {
    group = vim.api.nvim_create_augroup('midspan', {}),
    ---@param event { buf: integer, data: { client_id: integer } }
    callback = function(event)
      local client = assert(vim.lsp.get_client_by_id(event.data.client_id))
      if client.name ~= 'midspan' then
        return
      end
      vim.lsp.inline_completion.enable(true, { client_id = client.id })
      if chosen.accept then
        map_accept(event.buf, chosen.accept --[[@as string]])
      end
    end,
  })
  vim.lsp.config('midspan', chosen.config)
  vim.lsp.enable('midspan')
end

return M
