"""Which code computes a checkpoint's network here: chosen once, at load, and told by `midspan doctor`."""

from __future__ import annotations

from pathlib import Path

import torch

from midspan.engine.api import OnProgress
from midspan.engine.backends import triton as fused
from midspan.engine.backends.cpu import NativeGemma
from midspan.engine.backends.cpu_weights import unfit
from midspan.engine.backends.triton import FusedGemma
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.settings import Quantize
from midspan.engine.weights.load import Uninitialised, load_weights
from midspan.engine.weights.quantized import precision
from midspan.kernels import native

KERNELS = ("attention", "qkv", "rms_norm", "geglu", "router", "experts", "vocabulary", "settle")
REFERENCES = ("attention", "rms_norm", "rope", "geglu", "router", "experts")


def load_network(
    folder: Path, config: ModelConfig, place: torch.device, quantize: Quantize, progress: OnProgress | None = None
) -> DiffusionGemma:
    """A checkpoint's network with its weights: over Triton kernels, the CPU's own, in ONNX Runtime, or in plain torch.

    Raises CheckpointError, DeviceError, or torch.OutOfMemoryError of a GPU.
    """
    kernels = place.type == "cuda" and fused.unsupported(config) is None
    # What is on `meta` takes no memory yet, but making room for it imports sympy, half a second that a small one saves.
    small = place.type == "cpu" and one_expert(config) is None
    with torch.device("cpu" if small else "meta"), Uninitialised():
        model = (FusedGemma if kernels else DiffusionGemma)(config)
    forms = load_weights(model, folder, _dtype(config, place), place, quantize=quantize, progress=progress)
    if isinstance(model, FusedGemma):
        model.fuse()
    elif _plain_reason(model) is None:
        # Numbers that have been rounded to int8 once are rounded again; others keep all their bits.
        library = native.library() if "int8" in forms else None
        if library is not None and unfit(config, library.lanes) is None:
            return NativeGemma.of(model, library)
        # Here, so that a machine which never needs ONNX Runtime need not have it.
        from midspan.engine.backends.onnx import OnnxGemma, multiplies_int8

        return OnnxGemma.of(model, int8="int8" in forms and multiplies_int8())
    return model


def chosen(model: DiffusionGemma) -> tuple[tuple[str, str], ...]:
    """Which path runs each part of a loaded network."""
    if isinstance(model, FusedGemma):
        return (*((name, "triton") for name in KERNELS), ("step", "cuda graph"))
    if isinstance(model, NativeGemma):
        return (("network", f"native, {model.library.name}"), ("products", "int8"))
    if (int8 := getattr(model, "int8", None)) is not None:
        return (("network", f"onnxruntime, as {_no_kernels(model)}"), ("products", "int8" if int8 else "float32"))
    if model.device.type == "cuda":
        return tuple((name, f"reference, as {fused.unsupported(model.config)}") for name in REFERENCES)
    return (*((name, "reference") for name in REFERENCES), ("network", f"torch, as {_plain_reason(model)}"))


def one_expert(config: ModelConfig) -> str | None:
    """Why ONNX Runtime does not run a network of these sizes; None where it does. Its graphs know no routing."""
    if config.experts > 1:
        return "it has more than one expert"
    if {(shape.kv_heads, shape.head_dim) for shape in config.layers} != {(config.heads, config.layers[0].head_dim)}:
        return "its layers' heads differ or share keys"
    return None


def _no_kernels(model: DiffusionGemma) -> str:
    """Why a network on a CPU does not run over our own kernels."""
    found = native.library()
    if found is None:
        return native.absent()
    return unfit(model.config, found.lanes) or "its weights are not in int8"


def _plain_reason(model: DiffusionGemma) -> str | None:
    """Why a network on a CPU stays in plain torch; None where it goes to ONNX Runtime."""
    if model.device.type != "cpu":
        return "it is not on a CPU"
    return "its weights have fewer bits" if "+" in precision(model) else one_expert(model.config)


def _dtype(config: ModelConfig, place: torch.device) -> torch.dtype:
    """What weights are read as: the graphs are made of float32."""
    if place.type == "cuda":
        return torch.bfloat16
    return torch.float32 if one_expert(config) is None else fastest_dtype(place)


def fastest_dtype(place: torch.device) -> torch.dtype:
    """bf16 where matrix units multiply it, float32 elsewhere."""
    units = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if place.type == "cuda" or units else torch.float32
