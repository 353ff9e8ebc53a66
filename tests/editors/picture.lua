--- Types into a real Neovim and records its screen, cell by cell, whenever a person would see something new.
--- MIDSPAN_CASE names a JSON file with the fields of class Case. The frames are written to `result` as JSON.

---@class Case
---@field plugin string Folder put on the runtimepath.
---@field command string[] The server's command line.
---@field settings table<string, any> The server's initialization options.
---@field file string
---@field columns integer
---@field rows integer
---@field lines { typed: string, accept: boolean }[] Text to type, and whether the suggestion behind it is accepted.
---@field timeout_ms integer For each wait.
---@field result string

local driver = dofile(vim.fs.joinpath(vim.fs.dirname(debug.getinfo(1, 'S').source:sub(2)), 'driver.lua'))
---@type Case
local case, seen = driver.case, driver.seen
local await = driver.await
local loaded = false

--- One row of the screen as runs of one colour.
---@param row integer
---@return { text: string, colour: integer }[]
local function runs(row)
  local out = {}
  for column = 0, case.columns - 1 do
    local cell = vim.api.nvim__inspect_cell(1, row, column)
    local text, colour = cell[1], cell[2].foreground or -1
    local last = out[#out]
    if last and last.colour == colour then
      last.text = last.text .. text
    else
      table.insert(out, { text = text, colour = colour })
    end
  end
  return out
end

---@param seconds number How long the frame is shown.
local function shoot(seconds)
  vim.cmd('redraw!')
  local rows = {}
  for row = 0, case.rows - 1 do
    rows[row + 1] = runs(row)
  end
  local cursor = { vim.fn.screenrow() - 1, vim.fn.screencol() - 1 }
  table.insert(seen.frames, { seconds = seconds, rows = rows, cursor = cursor })
end

---@return boolean
local function ghost()
  local space = vim.api.nvim_get_namespaces()['nvim.lsp.inline_completion']
  return space ~= nil and #vim.api.nvim_buf_get_extmarks(0, space, 0, -1, {}) > 0
end

---@param keys string
local function press(keys)
  local tick = vim.b.changedtick
  vim.api.nvim_input(keys)
  await('what ' .. keys .. ' gives', function()
    return vim.b.changedtick ~= tick
  end)
end

local function session()
  local client = driver.attached()
  await('the model', function()
    return loaded
  end)
  seen.frames = {}
  press('Go')
  for _, line in ipairs(case.lines) do
    vim.api.nvim_input((line.typed:gsub('<', '<lt>')))
    await(line.typed, function()
      return vim.endswith(vim.api.nvim_get_current_line(), line.typed)
    end)
    if line.typed ~= '' then
      shoot(0.7)
    end
    if line.accept then
      await('ghost text behind ' .. line.typed, ghost)
      shoot(1.8)
      press('<Tab>')
      shoot(0.9)
    end
    press('<CR>')
  end
  driver.stop(client)
end

vim.o.columns, vim.o.lines, vim.o.cmdheight = case.columns, case.rows, 0
vim.o.termguicolors, vim.o.number, vim.o.laststatus, vim.o.showmode, vim.o.ruler = true, true, 0, false, false
vim.o.background, vim.o.autoindent = 'light', false
vim.api.nvim_create_autocmd('LspProgress', {
  pattern = 'end',
  callback = function()
    loaded = true
  end,
})
vim.cmd('syntax on')
driver.start(session)
