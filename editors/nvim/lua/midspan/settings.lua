--- What a user may set, with the defaults. Whatever cannot be used is answered by one line that names the fix.

local M = {}

---@alias midspan.Key string|false A key such as `<Tab>`; false maps none.

---@class midspan.Settings
---@field accept midspan.Key Insert mode: take the suggestion. Every key is itself where it has nothing to do.
---@field accept_word midspan.Key Insert mode: take its next word.
---@field accept_line midspan.Key Insert mode: take the rest of its line.
---@field next midspan.Key Insert mode: show the next suggestion; the server is asked for more where there is one only.
---@field prev midspan.Key Insert mode: show the one before.
---@field dismiss midspan.Key Insert mode: take the suggestion away.
---@field ask midspan.Key Insert mode: ask for suggestions here, however unsure.
---@field menu 'hide'|'keep'|'ignore' While a completion menu is open: it has the keys, and there is no ghost text; it
--- has the keys; or neither.
---@field draft boolean Whether the draft is drawn while it settles.
---@field preview boolean Whether a rewrite is shown as a diff before it is applied.
---@field preview_accept string Normal mode: apply the rewrite that is shown.
---@field preview_discard string Normal mode: discard it.
---@field config vim.lsp.Config Merged over lsp/midspan.lua, for example `{ cmd = { '/path/to/midspan', 'serve' } }`.

--- What `setup` takes: any of them.
---@alias midspan.Options midspan.Settings|table<string, any>

---@type midspan.Settings
M.defaults = {
  accept = '<Tab>',
  accept_word = '<M-Right>',
  accept_line = '<M-C-Right>',
  next = '<M-]>',
  prev = '<M-[>',
  dismiss = '<C-]>',
  ask = '<M-Bslash>',
  menu = 'hide',
  draft = false,
  preview = true,
  preview_accept = '<CR>',
  preview_discard = '<Esc>',
  config = {},
}

--- What is in force: the defaults until `setup` has chosen.
---@type midspan.Settings
M.now = M.defaults

---@class midspan.Kind
---@field words string What fits, for a message.
---@field fits fun(value: any): boolean

---@param name string
---@return midspan.Kind
local function typed(name)
  return {
    words = 'a ' .. name,
    fits = function(value)
      return type(value) == name
    end,
  }
end

---@type table<'insert'|'normal'|'menu', midspan.Kind>
local kinds = {
  insert = {
    words = 'a key such as <Tab>, or false',
    fits = function(value)
      return value == false or (type(value) == 'string' and value ~= '')
    end,
  },
  normal = {
    words = 'a key such as <CR>',
    fits = function(value)
      return type(value) == 'string' and value ~= ''
    end,
  },
  menu = {
    words = "'hide', 'keep' or 'ignore'",
    fits = function(value)
      return value == 'hide' or value == 'keep' or value == 'ignore'
    end,
  },
}

---@param option string
---@return midspan.Kind
local function kind_of(option)
  if option == 'menu' then
    return kinds.menu
  elseif vim.startswith(option, 'preview_') then
    return kinds.normal
  end
  local default = M.defaults[option]
  return type(default) == 'string' and kinds.insert or typed(type(default))
end

---@return string
local function known()
  local names = vim.tbl_keys(M.defaults)
  table.sort(names)
  return table.concat(names, ', ')
end

--- The options over the defaults. Raises one line for what cannot be used.
---@param options midspan.Options
---@return midspan.Settings
function M.check(options)
  if type(options) ~= 'table' then
    error(('midspan: setup takes a table, not %s: use setup({ accept = "<Tab>" })'):format(vim.inspect(options)), 0)
  end
  for option, value in pairs(options) do
    if M.defaults[option] == nil then
      error(('midspan: unknown option %q: use %s'):format(option, known()), 0)
    end
    local kind = kind_of(option)
    if not kind.fits(value) then
      local shown = vim.inspect(value, { newline = ' ', indent = '' })
      error(('midspan: option %s must be %s, not %s'):format(option, kind.words, shown), 0)
    end
  end
  return vim.tbl_extend('force', M.defaults, options)
end

return M
