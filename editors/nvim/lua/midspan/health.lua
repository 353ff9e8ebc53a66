--- `:checkhealth midspan`: Neovim, the server's program, where it is attached, what it computes with, the languages.

local M = {}

local VERSION_MS, DOCTOR_MS = 30000, 300000

---@return boolean
local function neovim()
  local version = tostring(vim.version())
  if vim.fn.has('nvim-0.12') == 0 then
    vim.health.error(('Neovim %s has no inline completion'):format(version), 'use Neovim 0.12 or newer')
    return false
  end
  vim.health.ok(('Neovim %s'):format(version))
  if not vim.lsp.is_enabled('midspan') then
    vim.health.warn('midspan is not set up', "call require('midspan').setup() in init.lua")
  end
  return true
end

--- Runs a command and waits.
---@param command string[]
---@param patience_ms integer
---@return vim.SystemCompleted
local function output(command, patience_ms)
  return require('midspan.server').run(command, function() end):wait(patience_ms)
end

--- The program that is configured, and its version.
---@return boolean found
local function program()
  local command, trouble = require('midspan.server').command('--version')
  if not command then
    local words, fix = assert(trouble):match('^(.-): (.*)$')
    vim.health.error(words, fix)
    return false
  end
  vim.health.ok(('server: %s'):format(vim.fn.exepath(command[1])))
  -- A version has no other options beside it.
  local at = vim.fn.index(command, '--version') + 1
  local ended = output(vim.list_slice(command, 1, at), VERSION_MS)
  local version = vim.version.parse(vim.trim(ended.stdout or ''))
  if ended.code ~= 0 or not version then
    local said = vim.trim(ended.stderr or '')
    vim.health.error(('%s does not run: %s'):format(command[1], said), 'install midspan anew: pip install midspan')
    return false
  end
  local old = require('midspan.server').too_old(version)
  if old then
    vim.health.error(old)
    return false
  end
  vim.health.ok(('midspan %s'):format(version))
  return true
end

local function buffers()
  local clients = vim.lsp.get_clients({ name = 'midspan' })
  if #clients == 0 then
    vim.health.info(('attached to no buffer; it starts with a file of %s'):format(M.filetypes()))
  end
  for _, client in ipairs(clients) do
    local names = vim.tbl_map(function(buffer)
      local name = vim.api.nvim_buf_get_name(buffer)
      return ('%s (%d)'):format(name == '' and '[No Name]' or vim.fn.fnamemodify(name, ':~:.'), buffer)
    end, vim.tbl_keys(client.attached_buffers))
    table.sort(names)
    local word, message = require('midspan.status').of((next(client.attached_buffers)))
    vim.health.ok(('client %d is %s: %s'):format(client.id, word or 'running', message or ''))
    vim.health.info(('attached to %s'):format(table.concat(names, ', ')))
  end
end

--- The filetypes that the server starts for, in words.
---@return string
function M.filetypes()
  local types = (vim.lsp.config.midspan or {}).filetypes
  return types and table.concat(types, ', ') or 'any filetype'
end

--- What the server's own doctor says: nil where it did not come back.
---@return table<string, any>?
local function doctor()
  local command = assert(require('midspan.server').command('doctor', '--json'))
  local ended = output(command, DOCTOR_MS)
  local fine, found = pcall(vim.json.decode, ended.stdout)
  if not fine then
    local said = vim.trim(ended.stderr or '')
    vim.health.error(('the doctor did not come back: %s'):format(said), 'run :Midspan doctor')
    return nil
  end
  return found
end

--- Neovim has no public function for some of what the keys do.
local function ghost()
  for _, client in ipairs(vim.lsp.get_clients({ name = 'midspan' })) do
    for buffer in pairs(client.attached_buffers) do
      local on = vim.lsp.inline_completion.is_enabled({ bufnr = buffer })
      if on and not require('midspan.ghost').of(buffer) then
        local words =
          'this Neovim keeps inline completion elsewhere than 0.12 does: no next or previous suggestion, no asking'
        vim.health.warn(words, 'use Neovim 0.12, or a newer midspan')
        return
      end
    end
  end
end

---@param found table<string, any>
local function languages(found)
  local trained = found.trained_on or {}
  if #trained > 0 then
    vim.health.info(('the checkpoint knows %s'):format(table.concat(trained, ', ')))
  end
  vim.health.info(('the server starts for %s'):format(M.filetypes()))
end

--- Called by `:checkhealth midspan`.
function M.check()
  vim.health.start('midspan')
  if not neovim() or not program() then
    return
  end
  vim.health.start('midspan: buffers')
  buffers()
  ghost()
  vim.health.start('midspan: doctor')
  local found = doctor()
  if not found then
    return
  end
  for _, fix in ipairs(found.fixes) do
    vim.health.error(fix)
  end
  if found.checkpoint then
    vim.health.ok(('checkpoint %s, %s parameters'):format(found.checkpoint, found.parameters))
    vim.health.ok(('device %s (%s), a fill in %.0f ms'):format(found.device, found.dtype, found.fill_ms))
  end
  vim.health.start('midspan: languages')
  languages(found)
end

return M
