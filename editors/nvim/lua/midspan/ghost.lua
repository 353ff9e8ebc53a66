--- Neovim's own ghost text. What it has no public function for yet is reached here, and nowhere else.

local menu = require('midspan.menu')

local M = {}

local SPACE = 'nvim.lsp.inline_completion'

---@class midspan.Completor The fields of Neovim 0.12's own that are used here.
---@field current? vim.lsp.inline_completion.Item
---@field show fun(self: midspan.Completor, hint?: string)
---@field hide fun(self: midspan.Completor)
---@field handler fun(self: midspan.Completor, err?: lsp.ResponseError, result: any, context: lsp.HandlerContext)
---@field count_items fun(self: midspan.Completor): integer

--- Neovim's state of a buffer's inline completion; nil where it is off, or built otherwise than in 0.12.
---@param buffer integer
---@return midspan.Completor?
function M.of(buffer)
  local all = require('vim.lsp._capability').all
  return vim.tbl_get(all or {}, 'inline_completion', 'active', buffer)
end

---@param buffer integer
---@return boolean
function M.is_shown(buffer)
  local space = vim.api.nvim_get_namespaces()[SPACE]
  return space ~= nil and #vim.api.nvim_buf_get_extmarks(buffer, space, 0, -1, { limit = 1 }) > 0
end

---@class midspan.Item : vim.lsp.inline_completion.Item As midspan's server gives them: text, and what it stands for.
---@field insert_text string
---@field range vim.Range

--- Whether an item is of that kind; another server's may be a snippet, or have no range.
---@param item vim.lsp.inline_completion.Item
---@return boolean
function M.is_plain(item)
  return item.range ~= nil and type(item.insert_text) == 'string'
end

--- What of an item stands before the cursor already; nil where the text went another way, or the cursor elsewhere.
---@param item midspan.Item
---@return string?
function M.typed(item)
  local row, first = item.range:to_extmark()
  local line, column = unpack(vim.api.nvim_win_get_cursor(0))
  local typed = line - 1 == row and vim.api.nvim_get_current_line():sub(first + 1, column)
  return typed and vim.startswith(item.insert_text, typed) and typed or nil
end

--- Whether there may be ghost text that belongs to the text as it is now: in doubt there is.
---@param buffer integer
---@return boolean
function M.is_current(buffer)
  local completor = M.of(buffer)
  if not completor then
    return true
  end
  local item = completor.current
  if not item then
    return false
  end
  ---@cast item midspan.Item
  return not M.is_plain(item) or M.typed(item) ~= nil
end

--- How many items there are to choose from.
---@param buffer integer
---@return integer
function M.count(buffer)
  local completor = M.of(buffer)
  return completor and completor:count_items() or 0
end

--- Keeps ghost text away while a completion menu hides it: Neovim draws anew with every key.
---@param buffer integer
function M.guard(buffer)
  local completor = M.of(buffer)
  if completor and rawget(completor, 'show') == nil then
    local show = completor.show
    completor.show = function(self, hint)
      if menu.hides() then
        self:hide()
      else
        show(self, hint)
      end
    end
  end
end

--- Draws ghost text, or takes it away, as the menu wants it now.
---@param buffer integer
function M.refresh(buffer)
  local completor = M.of(buffer)
  if completor and vim.startswith(vim.api.nvim_get_mode().mode, 'i') then
    M.guard(buffer)
    completor:show()
  end
end

return M
