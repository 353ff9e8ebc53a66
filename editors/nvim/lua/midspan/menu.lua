--- Completion menus beside the ghost text: Neovim's own (mini.completion's too), blink.cmp's, nvim-cmp's.

local settings = require('midspan.settings')

local M = {}

local heard_by_cmp = false

---@return boolean
local function blink()
  local loaded = package.loaded['blink.cmp']
  -- `is_visible` counts its ghost text as well, where it has any.
  local ask = loaded and (loaded.is_menu_visible or loaded.is_visible)
  return ask ~= nil and ask and ask() or false
end

---@return boolean
local function cmp()
  local loaded = package.loaded.cmp
  return loaded ~= nil and loaded.visible() or false
end

--- Whether a completion menu is open.
---@return boolean
function M.is_open()
  return vim.fn.pumvisible() == 1 or blink() or cmp()
end

--- Whether keys belong to the menu now.
---@return boolean
function M.has_keys()
  return settings.now.menu ~= 'ignore' and M.is_open()
end

--- Whether the menu hides ghost text now.
---@return boolean
function M.hides()
  return settings.now.menu == 'hide' and M.is_open()
end

--- Calls `changed` when a menu may have opened or closed.
---@param group integer
---@param changed fun()
function M.watch(group, changed)
  -- Inside of these events the menu still is as it was.
  local soon = vim.schedule_wrap(changed)
  vim.api.nvim_create_autocmd({ 'CompleteChanged', 'CompleteDone' }, { group = group, callback = soon })
  vim.api.nvim_create_autocmd('User', {
    group = group,
    pattern = { 'BlinkCmpMenuOpen', 'BlinkCmpMenuClose' },
    callback = soon,
  })
  vim.api.nvim_create_autocmd('InsertEnter', {
    group = group,
    callback = function()
      -- It may be loaded with the first InsertEnter.
      local loaded = package.loaded.cmp
      if loaded and not heard_by_cmp then
        heard_by_cmp = true
        loaded.event:on('menu_opened', soon)
        loaded.event:on('menu_closed', soon)
      end
    end,
  })
end

return M
