---@type vim.lsp.Config
return {
  cmd = { 'midspan', 'serve' },
  filetypes = { 'python' },
  root_markers = { 'pyproject.toml', 'setup.py', '.git' },
  init_options = { status = true },
  handlers = {
    ['midspan/status'] = function(_, told, context)
      require('midspan.status').follow(told, context.client_id)
    end,
    ['midspan/frame'] = function(_, frame, context)
      require('midspan.draft').draw(frame, context.client_id)
    end,
  },
  on_exit = function(code, signal, id)
    -- The buffers are let go before anything that is scheduled here runs.
    local client = vim.lsp.get_client_by_id(id)
    local buffers = client and vim.tbl_keys(client.attached_buffers) or {}
    vim.schedule(function()
      require('midspan.server').exited({ code = code, signal = signal, client = client, buffers = buffers })
    end)
  end,
}
