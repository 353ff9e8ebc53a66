--- What follows the server through its life in buffers: suggestions, keys, other servers' diagnostics, the menu.

local ghost = require('midspan.ghost')
local keys = require('midspan.keys')
local menu = require('midspan.menu')
local server = require('midspan.server')
local settings = require('midspan.settings')
local status = require('midspan.status')

local M = {}

--- Whether suggestions are on at all; `:Midspan toggle` changes it.
M.is_on = true

--- Whether suggestions come in a buffer.
---@param buffer integer
---@return boolean
function M.is_on_in(buffer)
  return vim.F.if_nil(vim.b[buffer].midspan_on, M.is_on)
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
    ---@diagnostic disable-next-line: param-type-mismatch A notification that LSP does not have.
    client:notify('midspan/diagnostics', { uri = vim.uri_from_bufnr(buffer), diagnostics = found })
  end
end

--- Turns suggestions on or off in a buffer, as they are wanted there; another server's go and come with them. By the
--- buffer, as Neovim 0.12 clears up behind a server that ends only where the buffer itself is on.
---@param buffer integer
local function apply(buffer)
  vim.lsp.inline_completion.enable(M.is_on_in(buffer), { bufnr = buffer })
  ghost.guard(buffer)
end

--- Turns suggestions on or off everywhere, whatever was chosen for single buffers.
---@param on boolean
function M.turn(on)
  M.is_on = on
  for _, client in ipairs(vim.lsp.get_clients({ name = 'midspan' })) do
    for buffer in pairs(client.attached_buffers) do
      vim.b[buffer].midspan_on = nil
      apply(buffer)
    end
  end
end

--- Turns suggestions on or off in one buffer.
---@param buffer integer
---@param on boolean
function M.turn_in(buffer, on)
  vim.b[buffer].midspan_on = on
  apply(buffer)
end

---@param event vim.api.keyset.create_autocmd.callback_args
local function attached(event)
  local client = vim.lsp.get_client_by_id(event.data.client_id)
  if client and client.name == 'midspan' then
    local old = server.too_old(vim.tbl_get(client, 'server_info', 'version') or '0')
    if old then
      vim.notify_once(old, vim.log.levels.ERROR)
    end
    apply(event.buf)
    keys.map(event.buf)
    diagnose(event.buf)
  end
end

--- Says once that there is no server for a file that wants one: Neovim only logs it.
local function look_for_program()
  local trouble = server.missing()
  if trouble then
    status.trouble = trouble
    vim.notify_once('midspan: ' .. trouble, vim.log.levels.WARN)
  end
end

--- Looks for the program when the first file comes that wants it, at once where one is open already.
---@param group integer
local function watch_files(group)
  local filetypes = vim.lsp.config.midspan.filetypes
  vim.api.nvim_create_autocmd('FileType', { group = group, pattern = filetypes or '*', callback = look_for_program })
  for _, buffer in ipairs(vim.api.nvim_list_bufs()) do
    if vim.list_contains(filetypes or {}, vim.bo[buffer].filetype) then
      look_for_program()
    end
  end
end

--- Follows the server wherever it is attached, and has Neovim start it.
function M.start()
  local group = vim.api.nvim_create_augroup('midspan', {})
  vim.api.nvim_create_autocmd('LspAttach', { group = group, callback = attached })
  vim.api.nvim_create_autocmd('DiagnosticChanged', {
    group = group,
    ---@param event vim.api.keyset.create_autocmd.callback_args
    callback = function(event)
      diagnose(event.buf)
    end,
  })
  vim.api.nvim_create_autocmd('InsertEnter', {
    group = group,
    ---@param event vim.api.keyset.create_autocmd.callback_args
    callback = function(event)
      ghost.guard(event.buf)
    end,
  })
  menu.watch(group, function()
    ghost.refresh(vim.api.nvim_get_current_buf())
  end)
  local config = settings.now.config
  if settings.now.draft then
    config = vim.tbl_deep_extend('force', { init_options = { preview = true } }, config)
  end
  vim.lsp.config('midspan', config)
  watch_files(group)
  vim.lsp.enable('midspan')
end

return M
