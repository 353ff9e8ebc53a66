--- What the server says that it is doing, for the statusline and `:Midspan status`.

local M = {}

---@alias midspan.State 'loading'|'ready'|'working'|'degraded'|'off'|'error'

---@class midspan.Told What `midspan/status` carries.
---@field state midspan.State
---@field message string

---@type table<midspan.State, string>
local words = {
  loading = 'loading',
  ready = 'ready',
  working = 'working',
  degraded = 'needs a fix',
  off = 'off',
  error = 'does not run',
}

---@type table<integer, midspan.Told> By client.
local told_by = {}

--- Why no server runs, where it ought to; nil else.
---@type string?
M.trouble = nil

local function redraw()
  vim.api.nvim_exec_autocmds('User', { pattern = 'MidspanStatus', modeline = false })
  vim.cmd.redrawstatus({ bang = true })
end

---@param told midspan.Told
---@param client_id integer
function M.follow(told, client_id)
  told_by[client_id] = told
  M.trouble = nil
  redraw()
end

--- Notes that a server is gone, and why if that is of note.
---@param client_id integer
---@param trouble? string
function M.forget(client_id, trouble)
  told_by[client_id] = nil
  M.trouble = trouble
  redraw()
end

---@param buffer integer
---@return vim.lsp.Client?
local function client_of(buffer)
  return vim.lsp.get_clients({ bufnr = buffer, name = 'midspan' })[1]
end

--- What the server does in a buffer: a word, and the line that explains it. Nil where midspan is not.
---@param buffer integer
---@return string? word
---@return string? message
function M.of(buffer)
  local client = client_of(buffer)
  if not client then
    local filetypes = M.trouble and vim.lsp.config.midspan.filetypes or {}
    if vim.list_contains(filetypes, vim.bo[buffer].filetype) then
      return words.error, M.trouble
    end
    return nil
  end
  local told = told_by[client.id]
  if not told then
    return 'starting', ''
  end
  local paused = not require('midspan.session').is_on_in(buffer)
  if paused and (told.state == 'ready' or told.state == 'working') then
    return 'paused', told.message
  end
  return words[told.state] or told.state, told.message
end

--- For 'statusline': a few words on the buffer of the window that is drawn; empty where midspan is not.
---@return string
function M.statusline()
  local window = vim.g.statusline_winid
  local buffer = vim.api.nvim_win_is_valid(window or -1) and vim.api.nvim_win_get_buf(window) or 0
  local word = M.of(buffer == 0 and vim.api.nvim_get_current_buf() or buffer)
  return word and ('midspan: %s'):format(word) or ''
end

return M
