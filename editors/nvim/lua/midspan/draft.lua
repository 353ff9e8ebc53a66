--- The live draft: what the network has so far, drawn behind the cursor until the suggestion itself comes.

local ghost = require('midspan.ghost')
local menu = require('midspan.menu')

local M = {}

local METHOD = 'textDocument/inlineCompletion'
local space = vim.api.nvim_create_namespace('midspan.draft')

---@class midspan.Frame What `midspan/frame` carries.
---@field uri string
---@field version integer
---@field position lsp.Position
---@field text string
---@field settled boolean

---@type table<integer, true> Buffers that are followed while a draft may stand in them.
local followed = {}

---@param buffer integer
function M.clear(buffer)
  if vim.api.nvim_buf_is_valid(buffer) then
    vim.api.nvim_buf_clear_namespace(buffer, space, 0, -1)
  end
end

--- Clears the draft as soon as its fill ends or is cancelled, as it is when insert mode is left, or the text changes.
---@param buffer integer
local function follow(buffer)
  if followed[buffer] then
    return
  end
  followed[buffer] = true
  local group = vim.api.nvim_create_augroup('midspan.draft', { clear = false })
  vim.api.nvim_create_autocmd('LspRequest', {
    group = group,
    buffer = buffer,
    ---@param event vim.api.keyset.create_autocmd.callback_args
    callback = function(event)
      if event.data.request.method == METHOD and event.data.request.type ~= 'pending' then
        M.clear(buffer)
      end
    end,
  })
  vim.api.nvim_create_autocmd({ 'TextChangedI', 'TextChangedP', 'CursorMovedI', 'LspDetach' }, {
    group = group,
    buffer = buffer,
    callback = function()
      M.clear(buffer)
    end,
  })
  vim.api.nvim_create_autocmd('BufUnload', {
    group = group,
    buffer = buffer,
    callback = function()
      followed[buffer] = nil
      vim.api.nvim_clear_autocmds({ group = group, buffer = buffer })
    end,
  })
end

---@param frame midspan.Frame
---@param buffer integer
---@return boolean
local function is_current(frame, buffer)
  return not frame.settled
    and frame.text ~= ''
    and vim.lsp.util.buf_versions[buffer] == frame.version
    and vim.api.nvim_get_current_buf() == buffer
    and vim.startswith(vim.api.nvim_get_mode().mode, 'i')
    and not ghost.is_shown(buffer)
    and not menu.hides()
end

--- Draws a frame in place of the one before, unless it is of another text than the buffer's.
---@param frame midspan.Frame
---@param client_id integer
function M.draw(frame, client_id)
  local buffer = vim.uri_to_bufnr(frame.uri)
  local client = vim.lsp.get_client_by_id(client_id)
  if not client or not is_current(frame, buffer) then
    M.clear(buffer)
    return
  end
  follow(buffer)
  vim.api.nvim_set_hl(0, 'MidspanDraft', { link = 'ComplHint', default = true })
  local row, column = vim.pos.lsp(buffer, frame.position, client.offset_encoding):to_extmark()
  local lines = vim.tbl_map(function(line)
    return { { line, 'MidspanDraft' } }
  end, vim.split(frame.text, '\n'))
  -- The same mark each time: what stays the same does not flicker.
  vim.api.nvim_buf_set_extmark(buffer, space, row, column, {
    id = 1,
    virt_text = lines[1],
    virt_lines = vim.list_slice(lines, 2),
    virt_text_pos = 'inline',
    hl_mode = 'combine',
  })
end

return M
