--- Sessions of `:checkhealth midspan`.

local M = {}

--- What `:checkhealth midspan` writes.
---@param driver table
---@return string
local function health(driver)
  vim.cmd.checkhealth('midspan')
  local lines = driver.buffer()
  vim.cmd.bwipeout({ bang = true })
  return table.concat(lines, '\n')
end

function M.well(driver, seen)
  driver.ready()
  seen.health = health(driver)
end

function M.at_once(driver, seen)
  seen.health = health(driver)
end

return M
