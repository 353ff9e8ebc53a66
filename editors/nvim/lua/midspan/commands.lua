--- `:Midspan` and its subcommands.

local server = require('midspan.server')
local session = require('midspan.session')
local status = require('midspan.status')

local M = {}

---@class midspan.Subcommand
---@field run fun(call: vim.api.keyset.create_user_command.command_args, rest: string[])
---@field words? string[] What may follow it.

---@param words string
local function tell(words)
  vim.api.nvim_echo({ { ('midspan: %s'):format(words) } }, true, {})
end

---@param words string
local function complain(words)
  vim.notify(('midspan: %s'):format(words), vim.log.levels.ERROR)
end

--- Shows text in a window of its own, which `q` closes.
---@param title string
---@param text string
local function show(title, text)
  vim.cmd.new()
  local buffer = vim.api.nvim_get_current_buf()
  vim.api.nvim_buf_set_lines(buffer, 0, -1, true, vim.split(vim.trim(text), '\n'))
  vim.bo[buffer].buftype, vim.bo[buffer].bufhidden, vim.bo[buffer].modifiable = 'nofile', 'wipe', false
  vim.api.nvim_buf_set_name(buffer, ('midspan://%s/%d'):format(title, buffer))
  vim.keymap.set('n', 'q', '<Cmd>close<CR>', { buffer = buffer, desc = 'Close' })
end

--- Runs a command of the server's program, and shows what it printed, on whichever stream.
---@param ... string
local function shell(...)
  local title = (...)
  local command, trouble = server.command(...)
  if not command then
    complain(assert(trouble))
    return
  end
  tell(('%s…'):format(title))
  server.run(command, function(ended)
    show(title, ended.stdout ~= '' and ended.stdout or ended.stderr or '')
  end)
end

--- Why a buffer has no server, with the fix.
---@param buffer integer
---@return string
local function unattached(buffer)
  local config, filetype = vim.lsp.config.midspan, vim.bo[buffer].filetype
  if not vim.lsp.is_enabled('midspan') then
    return "it is not set up: call require('midspan').setup()"
  elseif config.filetypes and not vim.tbl_contains(config.filetypes, filetype) then
    local known = table.concat(config.filetypes, ', ')
    local here = filetype == '' and 'none here' or ('%s here'):format(filetype)
    return ('it starts for the filetypes %s, and there is %s; config.filetypes names them'):format(known, here)
  end
  return status.trouble or 'no server is attached here; :checkhealth midspan says more'
end

local function show_status()
  local buffer = vim.api.nvim_get_current_buf()
  local word, message = status.of(buffer)
  if not word then
    tell(unattached(buffer))
    return
  end
  tell(message ~= '' and ('%s: %s'):format(word, message) or word)
  if not session.is_on_in(buffer) then
    tell('suggestions are off here; :Midspan toggle turns them on')
  end
end

local function why()
  local buffer = vim.api.nvim_get_current_buf()
  local client = server.client(buffer)
  if not client then
    show_status()
    return
  end
  if not session.is_on_in(buffer) then
    tell('suggestions are off here; :Midspan toggle turns them on')
  end
  server.ask(client, 'midspan.why', { vim.uri_from_bufnr(buffer) }, function(reasons)
    vim.iter(reasons):each(tell)
  end)
end

--- What is toggled by which word.
---@type table<string, fun(buffer: integer, client: vim.lsp.Client)>
local toggles = {
  buffer = function(buffer)
    session.turn_in(buffer, not session.is_on_in(buffer))
    tell(session.is_on_in(buffer) and 'suggestions are on in this buffer' or 'suggestions are off in this buffer')
  end,
  quiet = function(_, client)
    local quiet = not vim.tbl_get(client.settings, 'midspan', 'quiet')
    server.change({ quiet = quiet })
    tell(quiet and 'suggestions come only when they are asked for' or 'suggestions come unasked')
  end,
  language = function(buffer, client)
    local language = vim.bo[buffer].filetype
    server.ask(client, 'midspan.languagesOn', { { language } }, function(on)
      local is_on = vim.tbl_contains(on, language)
      -- The server takes the table whole: what the user turned on or off at the start belongs into it.
      local chosen = vim.tbl_get(client.config, 'init_options', 'languages') or {}
      server.change({ languages = vim.tbl_extend('force', chosen, { [language] = not is_on }) })
      tell(('%s is %s'):format(language, is_on and 'off' or 'on'))
    end)
  end,
}

---@param rest string[]
local function toggle(_, rest)
  local what, buffer = rest[1] or 'everywhere', vim.api.nvim_get_current_buf()
  local client = server.client(buffer)
  if what == 'everywhere' then
    session.turn(not session.is_on)
    tell(session.is_on and 'suggestions are on' or 'suggestions are off')
  elseif not toggles[what] then
    complain(('no toggle %q: use everywhere, buffer, language or quiet'):format(what))
  elseif not client then
    complain(unattached(buffer))
  else
    toggles[what](buffer, client)
  end
end

local function log()
  local file = vim.lsp.log.get_filename()
  vim.cmd.split(vim.fn.fnameescape(file))
  vim.cmd.normal({ 'G', bang = true })
end

---@param kind midspan.ActionKind
---@return fun(call: vim.api.keyset.create_user_command.command_args)
local function offer(kind)
  return function(call)
    require('midspan.rewrite').offer(kind, call.range > 0 and { call.line1, call.line2 } or nil)
  end
end

---@type table<string, midspan.Subcommand>
local subcommands = {
  status = { run = show_status },
  why = { run = why },
  toggle = { run = toggle, words = { 'buffer', 'everywhere', 'language', 'quiet' } },
  log = { run = log },
  restart = {
    run = function()
      server.restart()
      tell('the server is started anew')
    end,
  },
  doctor = {
    run = function()
      shell('doctor')
    end,
  },
  report = {
    run = function(_, rest)
      shell('report', unpack(rest))
    end,
    words = { '--since' },
  },
  rewrite = { run = offer('refactor.rewrite.midspan') },
  fix = { run = offer('quickfix.midspan') },
}

---@return string[]
local function names()
  local found = vim.tbl_keys(subcommands)
  table.sort(found)
  return found
end

--- Runs a subcommand; `status` where none is named.
---@param call vim.api.keyset.create_user_command.command_args
function M.run(call)
  local name = call.fargs[1] or 'status'
  local subcommand = subcommands[name]
  if subcommand then
    subcommand.run(call, vim.list_slice(call.fargs, 2))
  else
    complain(('no subcommand %q: use %s'):format(name, table.concat(names(), ', ')))
  end
end

--- What may stand where the cursor is in a `:Midspan` line.
---@param lead string
---@param line string
---@return string[]
function M.complete(lead, line)
  local words = vim.split(line, '%s+', { trimempty = true })
  local position = #words - (lead == '' and 0 or 1)
  local found = names()
  if position > 1 then
    local subcommand = subcommands[words[2]]
    found = position == 2 and subcommand and subcommand.words or {}
  end
  return vim.tbl_filter(function(one)
    return vim.startswith(one, lead)
  end, found)
end

return M
