--- In a fresh home folder whose init.lua has set midspan up: the server comes with the file, a key takes what it offers.

local here = vim.fs.dirname(debug.getinfo(1, 'S').source:sub(2))
local driver = dofile(vim.fs.joinpath(vim.fs.dirname(here), 'driver.lua'))
local seen = driver.seen

driver.follow_requests()
coroutine.wrap(function()
  local client = driver.ready()
  seen.ghost = driver.type_at(1, 'x = ')
  seen.after = driver.press('<Tab>')
  driver.normal()
  vim.cmd('Midspan status')
  seen.messages = driver.messages()
  seen.statusline = vim.api.nvim_eval_statusline(vim.o.statusline, { winid = 0 }).str
  seen.filetypes = client.config.filetypes
  driver.stop(client)
end)()
