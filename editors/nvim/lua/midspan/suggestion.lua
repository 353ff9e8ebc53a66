--- The suggestion at the cursor: taken whole or in part, changed for another, taken away, asked for.

local ghost = require('midspan.ghost')
local menu = require('midspan.menu')

local M = {}

local METHOD = 'textDocument/inlineCompletion'

---@type table<string, fun(rest: string): string> The part of the rest of a suggestion that each key accepts.
local parts = {
  accept = function(rest)
    return rest
  end,
  accept_word = function(rest)
    local word = vim.fn.matchstr(rest, [[\v^\_s*%(\k+|%(\k@!\S)+)]])
    return word == '' and rest or word
  end,
  accept_line = function(rest)
    return assert(rest:match('^\n?[^\n]*'))
  end,
}

--- Tells the server what was taken.
---@param item midspan.Item
---@param there string What of the item stands in the buffer now.
local function tell(item, there)
  local client = vim.lsp.get_client_by_id(item.client_id)
  if client and item.command and there == item.insert_text then
    client:exec_cmd(item.command, { bufnr = vim.api.nvim_get_current_buf() })
  elseif client and client.name == 'midspan' then
    ---@diagnostic disable-next-line: param-type-mismatch A notification that LSP does not have.
    client:notify('textDocument/didPartiallyAcceptCompletion', {
      item = { insertText = item.insert_text, command = item.command },
      acceptedLength = vim.str_utfindex(there, 'utf-16'),
    })
  end
end

--- Inserts the part of a suggestion that `part` returns, as an undo step of its own, and tells the server.
---@param item midspan.Item
---@param part fun(rest: string): string
local function take(item, part)
  -- Neovim sends requests 200 ms after the last key: until then the item may belong to an older text, and keys typed
  -- since may match its beginning.
  local typed = ghost.typed(item)
  if not typed then
    return
  end
  local row, _, _, last = item.range:to_extmark()
  local line, column = unpack(vim.api.nvim_win_get_cursor(0))
  local rest = item.insert_text:sub(#typed + 1)
  local text = part(rest)
  local lines = vim.split(text, '\n')
  vim.cmd('let &g:undolevels = &g:undolevels')
  vim.api.nvim_buf_set_text(0, row, column, row, text == rest and math.max(last, column) or column, lines)
  vim.api.nvim_win_set_cursor(0, { line + #lines - 1, (#lines == 1 and column or 0) + #lines[#lines] })
  tell(item, typed .. text)
end

--- Takes the suggestion, or its next word, or the rest of its line. False where there is none, or a menu has the keys.
---@param part 'accept'|'accept_word'|'accept_line'
---@return boolean
function M.accept(part)
  if menu.has_keys() or not ghost.is_current(vim.api.nvim_get_current_buf()) then
    return false
  end
  return vim.lsp.inline_completion.get({
    on_accept = function(item)
      if not ghost.is_plain(item) then
        return item
      end
      ---@cast item midspan.Item
      take(item, parts[part])
    end,
  })
end

--- Takes the suggestion away. False where there is none, or a menu has the keys.
---@return boolean
function M.dismiss()
  if menu.has_keys() or not ghost.is_current(vim.api.nvim_get_current_buf()) then
    return false
  end
  -- What is accepted is nothing: it goes, and so does the request for the next.
  return vim.lsp.inline_completion.get({ on_accept = function() end })
end

--- Shows the answer to a request that a person has made, if the text and the cursor are still as they were.
---@param buffer integer
---@param answered fun()
---@return lsp.Handler
local function shown_by(buffer, answered)
  local tick, cursor = vim.api.nvim_buf_get_changedtick(buffer), vim.api.nvim_win_get_cursor(0)
  return function(err, result, context)
    local here = vim.api.nvim_get_current_buf() == buffer and vim.deep_equal(vim.api.nvim_win_get_cursor(0), cursor)
    local completor = ghost.of(buffer)
    if here and completor and vim.api.nvim_buf_get_changedtick(buffer) == tick then
      completor:handler(err, result, context)
      answered()
    end
  end
end

---@param answered fun()
---@return boolean
local function request(answered)
  local buffer = vim.api.nvim_get_current_buf()
  local client = vim.lsp.get_clients({ bufnr = buffer, name = 'midspan' })[1]
  if not client or not ghost.of(buffer) then
    return false
  end
  local context = { triggerKind = vim.lsp.protocol.InlineCompletionTriggerKind.Invoked }
  local here = vim.lsp.util.make_position_params(0, client.offset_encoding)
  local params = { textDocument = here.textDocument, position = here.position, context = context }
  return (client:request(METHOD, params, shown_by(buffer, answered), buffer))
end

--- Asks for suggestions, however unsure. False where midspan is not, or a menu has the keys.
---@return boolean
function M.ask()
  if menu.has_keys() then
    return false
  end
  return request(function()
    if ghost.count(vim.api.nvim_get_current_buf()) == 0 then
      vim.notify('midspan: nothing to suggest here; :Midspan why says more', vim.log.levels.INFO)
    end
  end)
end

--- Shows the suggestion that many further on. False where there is none, or a menu has the keys.
---@param count integer
---@return boolean
function M.cycle(count)
  local buffer = vim.api.nvim_get_current_buf()
  if menu.has_keys() or not ghost.is_current(buffer) then
    return false
  end
  if ghost.count(buffer) > 1 then
    vim.lsp.inline_completion.select({ count = count })
    return true
  end
  -- Unasked the server offers one.
  return request(function()
    if ghost.count(buffer) > 1 then
      vim.lsp.inline_completion.select({ count = count })
    end
  end)
end

return M
