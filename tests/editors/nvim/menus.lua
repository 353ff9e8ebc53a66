--- Sessions beside completion menus: Neovim's own, and stand-ins for blink.cmp and nvim-cmp that map keys as those do.

local M = {}

--- Neovim's own menu, opened by <C-x><C-u> with nothing selected; <Tab> goes down in it.
local function own_menu()
  vim.o.completeopt = 'menuone,noselect,noinsert'
  _G.complete = function(find_start)
    return find_start == 1 and vim.fn.col('.') - 1 or { 'first', 'second' }
  end
  vim.bo.completefunc = 'v:lua.complete'
  vim.keymap.set('i', '<Tab>', function()
    return vim.fn.pumvisible() == 1 and '<C-n>' or '<Tab>'
  end, { expr = true })
end

---@param driver table
local function open_menu(driver)
  vim.api.nvim_input('<C-x><C-u>')
  driver.await('the menu', function()
    return vim.fn.pumvisible() == 1
  end)
end

---@param driver table
local function no_ghost(driver)
  return driver.await('no ghost text', function()
    return not driver.ghost()
  end)
end

--- Ghost text goes while the menu is open, and the key is the menu's; with the menu it comes back.
function M.own(driver, seen)
  driver.ready()
  own_menu()
  driver.type_at(1, 'x = ')
  open_menu(driver)
  no_ghost(driver)
  vim.api.nvim_input('<C-e>')
  seen.back = driver.await('ghost text', driver.ghost)
  open_menu(driver)
  no_ghost(driver)
  seen.chosen = driver.press('<Tab>')
  vim.api.nvim_input('<C-y>')
  driver.await('the menu to close', function()
    return vim.fn.pumvisible() == 0
  end)
  driver.normal()
end

--- An answer that comes while the menu is open is not drawn before it closes.
function M.late(driver, seen)
  driver.ready()
  own_menu()
  vim.api.nvim_input('Ax = ')
  driver.await('the typed text', function()
    return driver.buffer()[1] == 'x = '
  end)
  open_menu(driver)
  driver.await('an answer', driver.answered)
  seen.ghost = driver.ghost()
  vim.api.nvim_input('<C-e>')
  seen.back = driver.await('ghost text', driver.ghost)
  driver.normal()
end

--- Ghost text first, the menu over it.
local function menu_over_ghost(driver, seen)
  driver.ready()
  own_menu()
  driver.type_at(1, 'x = ')
  open_menu(driver)
  seen.ghost = driver.ghost()
end

function M.kept(driver, seen)
  menu_over_ghost(driver, seen)
  seen.chosen = driver.press('<Tab>')
  vim.api.nvim_input('<C-y>')
  driver.normal()
end

function M.ignored(driver, seen)
  menu_over_ghost(driver, seen)
  seen.taken = driver.press('<Tab>')
  driver.normal()
end

--- Stands in for blink.cmp: its questions, its events, and its buffer's own mapping, made when insert mode is entered.
---@return table
local function blink()
  local fake = { open = false, chosen = 0 }
  function fake.is_menu_visible()
    return fake.open
  end
  function fake.is_visible()
    return true -- Its own ghost text would count.
  end
  ---@param open boolean
  function fake.turn(open)
    fake.open = open
    vim.api.nvim_exec_autocmds('User', { pattern = open and 'BlinkCmpMenuOpen' or 'BlinkCmpMenuClose' })
  end
  package.loaded['blink.cmp'] = fake
  return fake
end

---@param fake table
local function blink_maps(fake)
  local before = vim.fn.maparg('<Tab>', 'i', false, true)
  vim.keymap.set('i', '<Tab>', function()
    if fake.open then
      fake.chosen = fake.chosen + 1
    elseif before.expr == 1 then
      -- Neovim's own <Tab>, which jumps in snippets.
      return vim.keycode(before.callback())
    else
      vim.schedule(before.callback)
    end
  end, { buffer = 0, expr = true, replace_keycodes = false, desc = 'blink.cmp' })
end

--- blink.cmp maps before midspan, or after it.
---@param first 'blink'|'midspan'
local function with_blink(first)
  return function(driver, seen)
    local fake = blink()
    if first == 'blink' then
      blink_maps(fake)
      driver.ready()
    else
      driver.ready()
      blink_maps(fake)
    end
    driver.type_at(1, 'x = ')
    fake.turn(true)
    no_ghost(driver)
    vim.api.nvim_input('<Tab>')
    driver.await('the choice', function()
      return fake.chosen == 1
    end)
    seen.unchanged = driver.buffer()
    fake.turn(false)
    seen.back = driver.await('ghost text', driver.ghost)
    seen.taken = driver.press('<Tab>')
    driver.normal()
    driver.press('o')
    seen.tab = driver.press('<Tab>')
    driver.normal()
    seen.chosen = fake.chosen
  end
end

M.blink_first = with_blink('blink')
M.blink_last = with_blink('midspan')

--- Stands in for nvim-cmp: its question, its events, its global mapping.
function M.cmp(driver, seen)
  local fake = { open = false, chosen = 0, heard = {} }
  function fake.visible()
    return fake.open
  end
  fake.event = {
    on = function(_, name, callback)
      fake.heard[name] = callback
    end,
  }
  package.loaded.cmp = fake
  vim.keymap.set('i', '<Tab>', function()
    if fake.open then
      fake.chosen = fake.chosen + 1
    else
      vim.api.nvim_feedkeys('\t', 'in', false)
    end
  end)
  driver.ready()
  driver.type_at(1, 'x = ')
  fake.open = true
  fake.heard.menu_opened()
  no_ghost(driver)
  vim.api.nvim_input('<Tab>')
  driver.await('the choice', function()
    return fake.chosen == 1
  end)
  fake.open = false
  fake.heard.menu_closed()
  seen.back = driver.await('ghost text', driver.ghost)
  seen.taken = driver.press('<Tab>')
  driver.normal()
  driver.press('o')
  seen.tab = driver.press('<Tab>')
  driver.normal()
  seen.chosen = fake.chosen
end

return M
