"""In which numbers a training run multiplies."""

from __future__ import annotations

import torch


def compute_dtype(device: str) -> torch.dtype:
    """bfloat16 on a GPU and where the CPU multiplies it, else float32: without such instructions bf16 takes 40 times as
    long."""
    able = torch.cpu.get_capabilities()
    bf16 = device != "cpu" or able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16")
    return torch.bfloat16 if bf16 else torch.float32
