--- midspan in Neovim 0.12: starts the server, turns inline completion on where it attaches, and maps the keys.

local M = {}

---@class midspan.Options
---@field accept string|false Insert-mode key that accepts the suggestion; without one it types itself; false maps none.
---@field accept_word string|false The same for the suggestion's next word.
---@field accept_line string|false The same for the rest of its line.
---@field config vim.lsp.Config Merged over lsp/midspan.lua, for example `{ cmd = { '/path/to/midspan', 'serve' } }`.
local defaults = { accept = '<Tab>', accept_word = '<M-Right>', accept_line = '<M-C-Right>', config = {} }

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
local descriptions = {
  accept = 'Accept the midspan suggestion',
  accept_word = "Accept the midspan suggestion's next word",
  accept_line = "Accept the rest of the midspan suggestion's line",
}

---@param options table
---@return midspan.Options
local function checked(options)
  vim.validate('options', options, 'table')
  for key in pairs(options) do
    if defaults[key] == nil then
      error(('midspan: unknown option %q: use accept, accept_word, accept_line or config'):format(key), 0)
    end
  end
  local merged = vim.tbl_extend('force', defaults, options)
  for name in pairs(parts) do
    vim.validate(name, merged[name], function(key)
      return key == false or type(key) == 'string'
    end, 'a key such as <Tab>, or false')
  end
  vim.validate('config', merged.config, 'table')
  return merged
end

--- Inserts the part of a suggestion that `part` returns, as an undo step of its own, and tells the server.
---@param item vim.lsp.inline_completion.Item
---@param part fun(rest: string): string
local function take(item, part)
  local row, first, _, last = item.range:to_extmark()
  local line, column = unpack(vim.api.nvim_win_get_cursor(0))
  -- Neovim sends requests 200 ms after the last key: until then the item may belong to an older text, and keys typed
  -- since may match its beginning.
  local typed = line - 1 == row and vim.api.nvim_get_current_line():sub(first + 1, column)
  if not typed or not vim.startswith(item.insert_text, typed) then
    return
  end
  local rest = item.insert_text:sub(#typed + 1)
  local text = part(rest)
  local lines, whole = vim.split(text, '\n'), text == rest
  vim.cmd('let &g:undolevels = &g:undolevels')
  vim.api.nvim_buf_set_text(0, row, column, row, whole and math.max(last, column) or column, lines)
  vim.api.nvim_win_set_cursor(0, { line + #lines - 1, (#lines == 1 and column or 0) + #lines[#lines] })
  local client = vim.lsp.get_client_by_id(item.client_id)
  if client and item.command and whole then
    client:exec_cmd(item.command, { bufnr = vim.api.nvim_get_current_buf() })
  elseif client and client.name == 'midspan' then
    client:notify('textDocument/didPartiallyAcceptCompletion', {
      item = { insertText = item.insert_text, command = item.command },
      acceptedLength = vim.str_utfindex(typed .. text, 'utf-16'),
    })
  end
end

---@param buffer integer
---@param name string
---@param key string
local function map(buffer, name, key)
  vim.keymap.set('i', key, function()
    local shown = vim.lsp.inline_completion.get({
      on_accept = function(item)
        take(item, parts[name])
      end,
    })
    return shown and '' or key
  end, { buffer = buffer, expr = true, desc = descriptions[name] })
end

--- Sends the server a buffer's diagnostics from other servers, which may concern the gap.
---@param buffer integer
local function diagnose(buffer)
  for _, client in ipairs(vim.lsp.get_clients({ bufnr = buffer, name = 'midspan' })) do
    local found = vim.tbl_map(function(one)
      local from = { line = one.lnum, character = one.col }
      local to = { line = one.end_lnum or one.lnum, character = one.end_col or one.col }
      return { range = { start = from, ['end'] = to }, message = one.message, severity = one.severity }
    end, vim.diagnostic.get(buffer))
    client:notify('midspan/diagnostics', { uri = vim.uri_from_bufnr(buffer), diagnostics = found })
  end
end

---@param options? midspan.Options
function M.setup(options)
  if vim.fn.has('nvim-0.12') == 0 then
    error('midspan needs Neovim 0.12 or newer for vim.lsp.inline_completion', 0)
  end
  local chosen = checked(options or {})
  local group = vim.api.nvim_create_augroup('midspan', {})
  vim.api.nvim_create_autocmd('DiagnosticChanged', {
    group = group,
    ---@param event { buf: integer }
    callback = function(event)
      diagnose(event.buf)
    end,
  })
  vim.api.nvim_create_autocmd('LspAttach', {
    group = group,
    ---@param event { buf: integer, data: { client_id: integer } }
    callback = function(event)
      local client = assert(vim.lsp.get_client_by_id(event.data.client_id))
      if client.name ~= 'midspan' then
        return
      end
      vim.lsp.inline_completion.enable(true, { client_id = client.id })
      for name in pairs(parts) do
        if chosen[name] then
          map(event.buf, name, chosen[name])
        end
      end
      diagnose(event.buf)
    end,
  })
  vim.lsp.config('midspan', chosen.config)
  vim.lsp.enable('midspan')
end

return M
