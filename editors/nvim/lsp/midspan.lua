---@type vim.lsp.Config
return {
  cmd = { 'midspan', 'serve' },
  filetypes = { 'python' },
  root_markers = { 'pyproject.toml', 'setup.py', '.git' },
}
