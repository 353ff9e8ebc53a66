"""The language server and the command line; it reaches the model through `midspan.engine` only."""
