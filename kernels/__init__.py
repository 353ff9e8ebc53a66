"""Kernels, one operation a file: its formula and shapes, the Triton kernel, the launcher and the torch reference."""
