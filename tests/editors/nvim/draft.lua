--- Sessions of the live draft. Every frame is looked at as it is drawn: none is waited for in vain.

local M = {}

---@return string[]?
local function drawn(driver)
  local space = vim.api.nvim_get_namespaces()['midspan.draft']
  local mark = space and vim.api.nvim_buf_get_extmarks(0, space, 0, -1, { details = true })[1]
  return mark and driver.drawn(mark)
end

--- Keeps what stands in the buffer after each frame.
---@param driver table
---@return string[][]
local function record(driver)
  local draft, frames = require('midspan.draft'), {}
  local draw = draft.draw
  draft.draw = function(frame, client_id)
    draw(frame, client_id)
    table.insert(frames, drawn(driver) or {})
  end
  return frames
end

--- The draft stands behind the cursor, and grows; the suggestion takes its place.
function M.settles(driver, seen)
  driver.ready()
  seen.frames = record(driver)
  seen.ghost = driver.type_at(1, 'frames = ')
  seen.left = drawn(driver)
  driver.normal()
end

--- Typing on takes the draft away with the key itself, and leaving insert mode does.
function M.is_cleared(driver, seen)
  driver.ready()
  vim.api.nvim_input('Aforever = ')
  driver.await('a draft', function()
    return drawn(driver)
  end)
  seen.space = vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_get_namespaces()['midspan.draft'], 0, -1, {})
  vim.api.nvim_create_autocmd('TextChangedI', {
    once = true,
    callback = function()
      seen.after_key = drawn(driver)
      seen.typed = driver.buffer()
    end,
  })
  vim.api.nvim_input('x')
  driver.await('the key', function()
    return seen.typed
  end)
  driver.await('a draft of the new text', function()
    return drawn(driver)
  end)
  vim.api.nvim_create_autocmd('InsertLeave', {
    once = true,
    callback = function()
      vim.schedule(function()
        seen.after_insert = drawn(driver)
      end)
    end,
  })
  driver.normal()
  -- The request is cancelled: nothing more is to come.
  driver.await('the end of the request', function()
    return next(vim.lsp.get_clients({ name = 'midspan' })[1].requests) == nil
  end)
  seen.after_all = drawn(driver)
end

--- A frame of another version of the text is not drawn.
function M.is_refused(driver, seen)
  local client = driver.ready()
  vim.api.nvim_input('Aempty')
  driver.await('an answer', driver.answered)
  local frame = { uri = vim.uri_from_bufnr(0), position = { line = 0, character = 0 }, text = 'draft', settled = false }
  frame.version = vim.lsp.util.buf_versions[vim.api.nvim_get_current_buf()]
  require('midspan.draft').draw(frame, client.id)
  seen.current = drawn(driver)
  frame.version = frame.version - 1
  require('midspan.draft').draw(frame, client.id)
  seen.older = drawn(driver)
  driver.normal()
end

--- Behind characters of several bytes it stands where the cursor is.
function M.place(driver, seen)
  driver.ready()
  vim.api.nvim_input("Aforever = 'é𝄞' + ")
  driver.await('a draft', function()
    return drawn(driver)
  end)
  local space = vim.api.nvim_get_namespaces()['midspan.draft']
  seen.column = vim.api.nvim_buf_get_extmarks(0, space, 0, -1, {})[1][3]
  seen.cursor = vim.api.nvim_win_get_cursor(0)[2]
  driver.normal()
end

return M
