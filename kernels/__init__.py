"""One op a file: formula and shapes, and its torch reference."""
