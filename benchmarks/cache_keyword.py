"""What transformers calls the cache of a network's forward: `cache` from 5.24 on, `past_key_values` before."""

from __future__ import annotations

import inspect

import torch


def with_cache(network: torch.nn.Module, cache: object) -> dict[str, object]:
    """The cache as an argument of the network's forward, under the name that its signature has for it."""
    known = inspect.signature(network.forward).parameters
    return {"cache" if "cache" in known else "past_key_values": cache}
