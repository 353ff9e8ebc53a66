--- midspan in Neovim 0.12: fills the gap at the cursor. Nothing happens before `setup`, not even a `require` of more.

local M = {}

--- Starts the server with the files it is for, shows what it suggests, and maps the keys.
---@param options? midspan.Options
function M.setup(options)
  if vim.fn.has('nvim-0.12') == 0 then
    error('midspan needs Neovim 0.12 or newer for vim.lsp.inline_completion', 0)
  end
  local settings = require('midspan.settings')
  settings.now = settings.check(options or {})
  -- Whoever puts this folder on the runtimepath after the start, or by a plugin manager, has the command as well.
  vim.cmd.runtime('plugin/midspan.lua')
  require('midspan.session').start()
end

--- What the server does, for the buffer of the statusline that is drawn; empty where midspan is not.
---@return string
function M.statusline()
  return require('midspan.status').statusline()
end

--- Takes the suggestion at the cursor. As all of these, for mappings of one's own: false where there is nothing to do.
---@return boolean
function M.accept()
  return require('midspan.suggestion').accept('accept')
end

---@return boolean
function M.accept_word()
  return require('midspan.suggestion').accept('accept_word')
end

---@return boolean
function M.accept_line()
  return require('midspan.suggestion').accept('accept_line')
end

---@return boolean
function M.next()
  return require('midspan.suggestion').cycle(1)
end

---@return boolean
function M.prev()
  return require('midspan.suggestion').cycle(-1)
end

---@return boolean
function M.dismiss()
  return require('midspan.suggestion').dismiss()
end

---@return boolean
function M.ask()
  return require('midspan.suggestion').ask()
end

--- Offers what midspan can write in place of the selection, or at the cursor.
function M.rewrite()
  require('midspan.rewrite').offer('refactor.rewrite.midspan')
end

--- Offers a fix of what is found wrong in the selection, or in the cursor's line.
function M.fix()
  require('midspan.rewrite').offer('quickfix.midspan')
end

return M
