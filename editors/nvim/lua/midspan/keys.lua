--- Insert-mode keys: each does its work where there is a suggestion, and else what it would do without midspan.

local settings = require('midspan.settings')

local M = {}

local names = { 'accept', 'accept_word', 'accept_line', 'next', 'prev', 'dismiss', 'ask' }

-- Also tells our mappings from others.
local PREFIX = 'midspan: '

---@type table<string, string>
local descriptions = {
  accept = 'take the suggestion',
  accept_word = "take the suggestion's next word",
  accept_line = "take the rest of the suggestion's line",
  next = 'next suggestion',
  prev = 'previous suggestion',
  dismiss = 'take the suggestion away',
  ask = 'ask for suggestions',
}

---@param maps vim.api.keyset.get_keymap[]
---@param key string
---@return vim.api.keyset.get_keymap?
local function find(maps, key)
  local wanted = vim.keycode(key)
  return vim.iter(maps):find(function(map)
    return vim.keycode(map.lhs) == wanted
  end)
end

---@param keys string
---@param mode 'in'|'im' Whether it is the key alone or what it is mapped to; before what has been typed since.
local function feed(keys, mode)
  vim.api.nvim_feedkeys(keys, mode, false)
end

--- Does what a mapping does.
---@param map vim.api.keyset.get_keymap
local function run(map)
  local mode = map.noremap == 1 and 'in' or 'im'
  if map.callback then
    local given = map.callback()
    if map.expr == 1 and type(given) == 'string' then
      feed(map.replace_keycodes == 1 and vim.keycode(given) or given, mode)
    end
  elseif map.expr == 1 then
    -- Vim script has put its keys into codes itself.
    feed(vim.api.nvim_eval(map.rhs), mode)
  else
    feed(vim.keycode(map.rhs or ''), mode)
  end
end

--- What a key does without midspan: a completion plugin's mapping, another one, or itself.
---@param key string
---@param before? vim.api.keyset.get_keymap The buffer's own mapping that ours stands in place of.
local function fall_through(key, before)
  local map = before or find(vim.api.nvim_get_keymap('i'), key)
  if map then
    run(map)
  else
    feed(vim.keycode(key), 'in')
  end
end

--- Buffers' own mappings that ours stand in place of, by key.
---@type table<integer, table<string, vim.api.keyset.get_keymap>>
local own = {}

--- Maps the keys that the settings name, in a buffer that midspan is attached to.
---@param buffer integer
function M.map(buffer)
  own[buffer] = own[buffer] or {}
  for _, name in ipairs(names) do
    local key = settings.now[name]
    if key then
      local before = find(vim.api.nvim_buf_get_keymap(buffer, 'i'), key)
      if before and not vim.startswith(before.desc or '', PREFIX) then
        own[buffer][key] = before
      end
      vim.keymap.set('i', key, function()
        if not require('midspan')[name]() then
          fall_through(key, own[buffer][key])
        end
      end, { buffer = buffer, desc = PREFIX .. descriptions[name] })
    end
  end
end

--- What `<Plug>(midspan-NAME)` does: falls through to the key that is mapped to it, where that is one.
---@param name string
function M.plug(name)
  if require('midspan')[name:gsub('-', '_')]() then
    return
  end
  local lhs = ('<Plug>(midspan-%s)'):format(name)
  local maps = vim.list_extend(vim.api.nvim_buf_get_keymap(0, 'i'), vim.api.nvim_get_keymap('i'))
  local keys = {}
  for _, map in ipairs(maps) do
    if map.rhs == lhs then
      keys[vim.keycode(map.lhs)] = true
    end
  end
  local key = next(keys)
  if key and next(keys, key) == nil then
    feed(key, 'in')
  end
end

return M
