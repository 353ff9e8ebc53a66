"""transformers' keyword for a network's cache: `cache` from 5.24 on, `past_key_values` before."""

from __future__ import annotations

import inspect

import torch


def with_cache(network: torch.nn.Module, cache: object) -> dict[str, object]:
    """The cache as a keyword argument of the network's forward, under the name in its signature."""
    known = inspect.signature(network.forward).parameters
    return {"cache" if "cache" in known else "past_key_values": cache}
