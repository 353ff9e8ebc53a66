--- Rewrites and fixes: what the server's code actions can write, chosen, shown, applied.

local preview = require('midspan.preview')
local server = require('midspan.server')
local settings = require('midspan.settings')

local M = {}

---@param words string
---@param level? integer
local function tell(words, level)
  vim.notify(vim.startswith(words, 'midspan: ') and words or 'midspan: ' .. words, level or vim.log.levels.INFO)
end

---@alias midspan.ActionKind 'refactor.rewrite.midspan'|'quickfix.midspan'

---@alias midspan.Span [integer, integer, integer, integer] Rows and byte columns from 0, the end exclusive.

--- The end of the character that begins at a byte.
---@param row integer
---@param column integer
---@return integer
local function behind(row, column)
  local line = vim.api.nvim_buf_get_lines(0, row, row + 1, true)[1]
  return column >= #line and #line or column + 1 + vim.str_utf_end(line, column + 1)
end

---@param first integer From 1.
---@param last integer
---@return midspan.Span
local function whole_lines(first, last)
  return { first - 1, 0, last - 1, #vim.fn.getline(last) }
end

--- What is selected, in visual mode; nil in any other.
---@return midspan.Span?
local function selected()
  local mode = vim.api.nvim_get_mode().mode
  if not vim.list_contains({ 'v', 'V', '\22' }, mode) then
    return nil
  end
  local from, to = vim.fn.getpos('v'), vim.fn.getpos('.')
  if from[2] > to[2] or (from[2] == to[2] and from[3] > to[3]) then
    from, to = to, from
  end
  vim.api.nvim_feedkeys(vim.keycode('<Esc>'), 'nx', false)
  if mode == 'V' then
    return whole_lines(from[2], to[2])
  end
  return { from[2] - 1, from[3] - 1, to[2] - 1, behind(to[2] - 1, to[3] - 1) }
end

--- What a command's line numbers stand for: the last selection, to the character, where they are its own.
---@param lines [integer, integer]
---@return midspan.Span
local function of_lines(lines)
  local from, to = vim.fn.getpos("'<"), vim.fn.getpos("'>")
  if vim.fn.visualmode() == 'v' and from[2] == lines[1] and to[2] == lines[2] then
    return { from[2] - 1, from[3] - 1, to[2] - 1, behind(to[2] - 1, to[3] - 1) }
  end
  return whole_lines(lines[1], lines[2])
end

---@return midspan.Span
local function at_cursor()
  local line, column = unpack(vim.api.nvim_win_get_cursor(0))
  return { line - 1, column, line - 1, column }
end

---@param buffer integer
---@param row integer
---@param column integer
---@param encoding lsp.PositionEncodingKind
---@return lsp.Position
local function position(buffer, row, column, encoding)
  local line = vim.api.nvim_buf_get_lines(buffer, row, row + 1, false)[1] or ''
  return { line = row, character = vim.str_utfindex(line, encoding, math.min(column, #line), false) }
end

--- What any server or linter finds wrong in these rows, as LSP has it.
---@param buffer integer
---@param span midspan.Span
---@param encoding lsp.PositionEncodingKind
---@return lsp.Diagnostic[]
local function wrong(buffer, span, encoding)
  local found = {}
  for _, one in ipairs(vim.diagnostic.get(buffer)) do
    if one.lnum <= span[3] and (one.end_lnum or one.lnum) >= span[1] then
      table.insert(found, {
        range = {
          start = position(buffer, one.lnum, one.col, encoding),
          ['end'] = position(buffer, one.end_lnum or one.lnum, one.end_col or one.col, encoding),
        },
        message = one.message,
        severity = one.severity,
      })
    end
  end
  return found
end

--- The rows that an edit touches, as they are and as they would be; nil where it is not one edit of this buffer.
---@param buffer integer
---@param edit lsp.WorkspaceEdit
---@param encoding lsp.PositionEncodingKind
---@return integer? first
---@return string[]? old
---@return string[]? new
local function rows(buffer, edit, encoding)
  local documents = edit.documentChanges or {}
  local edits = #documents == 1 and documents[1].edits or vim.tbl_get(edit, 'changes', vim.uri_from_bufnr(buffer))
  if not edits or #edits ~= 1 then
    return nil
  end
  local range, text = edits[1].range, edits[1].newText:gsub('\r\n?', '\n')
  local first, from = vim.pos.lsp(buffer, range.start, encoding):to_extmark()
  local last, to = vim.pos.lsp(buffer, range['end'], encoding):to_extmark()
  local old = vim.api.nvim_buf_get_lines(buffer, first, last + 1, true)
  local new = vim.split(old[1]:sub(1, from) .. text .. old[#old]:sub(to + 1), '\n')
  return first, old, new
end

--- Applies what an action writes, or shows it first.
---@param buffer integer
---@param client vim.lsp.Client
---@param edit lsp.WorkspaceEdit
local function present(buffer, client, edit)
  local function apply()
    vim.lsp.util.apply_workspace_edit(edit, client.offset_encoding)
  end
  local first, old, new = rows(buffer, edit, client.offset_encoding)
  if first and old and new and settings.now.preview and vim.api.nvim_get_current_buf() == buffer then
    preview.show(buffer, first, old, new, apply)
  else
    apply()
  end
end

--- Has the server compute what an action writes.
---@param buffer integer
---@param client vim.lsp.Client
---@param action lsp.CodeAction
local function resolve(buffer, client, action)
  if action.disabled then
    tell(action.disabled.reason, vim.log.levels.WARN)
    return
  end
  client:request('codeAction/resolve', action, function(err, resolved)
    if err then
      tell(err.message, vim.log.levels.WARN)
    elseif resolved and resolved.edit then
      present(buffer, client, resolved.edit)
    end
  end, buffer)
end

--- Offers the actions of a kind for the lines, else the selection, else the cursor; the only one is taken at once.
---@param kind midspan.ActionKind
---@param lines? [integer, integer] A command's.
function M.offer(kind, lines)
  local buffer = vim.api.nvim_get_current_buf()
  local client = server.client(buffer)
  local span = lines and of_lines(lines) or selected() or at_cursor()
  if not client then
    tell('no server is attached here; :Midspan status says why', vim.log.levels.WARN)
    return
  end
  local encoding = client.offset_encoding
  local params = {
    textDocument = vim.lsp.util.make_text_document_params(buffer),
    range = {
      start = position(buffer, span[1], span[2], encoding),
      ['end'] = position(buffer, span[3], span[4], encoding),
    },
    context = { only = { kind }, diagnostics = wrong(buffer, span, encoding), triggerKind = 1 },
  }
  client:request('textDocument/codeAction', params, function(err, actions)
    if err or not actions or #actions == 0 then
      tell(err and err.message or 'nothing to write here; :Midspan why may say why', vim.log.levels.INFO)
    elseif #actions == 1 then
      resolve(buffer, client, actions[1])
    else
      local function title(action)
        return (action.title:gsub('^midspan: ', ''))
      end
      vim.ui.select(actions, { prompt = 'midspan', format_item = title, kind = 'codeaction' }, function(action)
        if action then
          resolve(buffer, client, action)
        end
      end)
    end
  end, buffer)
end

return M
