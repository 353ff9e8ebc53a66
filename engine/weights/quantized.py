"""Modules of fewer bits in the place of plain ones: FP8 with one scale for each output channel, experts in 4 bits.

They compute by the kernels' references, in plain torch on any device; paths over kernels read the same attributes.
A stored value can become any of the three forms; safetensors.py knows how checkpoints store them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from midspan.engine.api import DeviceError
from midspan.engine.model import DiffusionGemma, Experts, Layer
from midspan.kernels.experts import experts_fp8_reference
from midspan.kernels.experts_4bit import FourBit, experts_4bit_reference
from midspan.kernels.four_bit import dequantize_reference, group_of, quantize_int4
from midspan.kernels.quantize import quantize_rows_reference

FP8 = torch.float8_e4m3fn
NVFP4_GROUP = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One matrix [n, d] or a stack of them [..., n, d] as read from a checkpoint; a vector is plain.

    `scale` is None beside plain numbers, [..., n] beside int8 and FP8, [..., n, d / 32] beside int4's packed bytes, and
    [..., n, d / 16] beside NVFP4's, which `channel` [..., n] scales once more.
    """

    value: torch.Tensor
    scale: torch.Tensor | None = None
    channel: torch.Tensor | None = None

    def to(self, device: torch.device) -> Stored:
        """On another device."""
        parts = (None if part is None else part.to(device) for part in (self.value, self.scale, self.channel))
        return Stored(**dict(zip(("value", "scale", "channel"), parts, strict=True)))  # type: ignore[arg-type]

    def plain(self) -> torch.Tensor:
        """The numbers: in the stored dtype where there is no scale, else in float32."""
        if self.scale is None:
            return self.value
        if self.channel is None and self.value.dtype == torch.uint8:
            ones = torch.ones(self.value.shape[:-1], device=self.value.device)
            return dequantize_reference(self.value, self.scale, ones, "int4")
        if self.channel is None:
            return self.value.float() * self.scale.float()[..., None]
        return dequantize_reference(self.value, self.scale, self.channel, "e2m1")

    def tensors(self) -> Iterator[torch.Tensor]:
        """The tensors that it is made of, in the order of a piece's parts."""
        yield from (part for part in (self.value, self.scale, self.channel) if part is not None)

    def apart(self, region: tuple[slice | int, ...]) -> Iterator[tuple[tuple[slice | int, ...], Stored]]:
        """The experts of a stack one by one, with their regions; any other value as it is.

        Float32 copies of all experts of a layer would take gigabytes.
        """
        if self.value.ndim < 3:
            yield region, self
            return
        for expert, value in enumerate(self.value):
            yield (expert,), Stored(value=value, scale=None if self.scale is None else self.scale[expert])

    def fp8(self) -> tuple[torch.Tensor, torch.Tensor]:
        """FP8 values and their scales [..., n] in float32, quantised now unless they are stored so."""
        if self.value.dtype == FP8 and self.scale is not None:
            return self.value, self.scale.float()
        return quantize_rows_reference(self.plain())


class Fp8Linear(nn.Module):
    """A linear map without bias: weight [n, d] in FP8, scale [n] in float32; its input rows are quantised."""

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, inner: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, inner, dtype=FP8), requires_grad=False)
        self.register_buffer("scale", torch.empty(out), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, share = quantize_rows_reference(x)
        out = F.linear(rows.float(), self.weight.float()) * (share[..., None] * self.scale)
        return out.to(x.dtype)

    def put(self, attribute: str, region: tuple[slice | int, ...], stored: Stored) -> None:
        """Write a part of the weight."""
        assert attribute == "weight"
        self.weight[region], self.scale[region] = stored.fp8()


class Fp8Experts(nn.Module):
    """Experts whose matrices are FP8; scales [E, 2f] and [E, d] in float32."""

    gate_up_scale: torch.Tensor
    down_scale: torch.Tensor

    def __init__(self, number: int, inner: int, size: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(number, 2 * inner, size, dtype=FP8), requires_grad=False)
        self.down_proj = nn.Parameter(torch.empty(number, size, inner, dtype=FP8), requires_grad=False)
        self.register_buffer("gate_up_scale", torch.empty(number, 2 * inner), persistent=False)
        self.register_buffer("down_scale", torch.empty(number, size), persistent=False)

    def forward(self, x: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return experts_fp8_reference(
            x, weights, index, self.gate_up_proj, self.gate_up_scale, self.down_proj, self.down_scale
        )

    def put(self, attribute: str, region: tuple[slice | int, ...], stored: Stored) -> None:
        """Write a part of `gate_up_proj` or `down_proj`."""
        for part, one in stored.apart(region):
            value, scale = one.fp8()
            getattr(self, attribute)[part] = value
            getattr(self, attribute.replace("_proj", "_scale"))[part] = scale


class FourBitExperts(nn.Module):
    """Experts whose matrices hold two numbers a byte; kernels/four_bit.py has the two codes."""

    gate_up_scale: torch.Tensor
    down_scale: torch.Tensor
    gate_up_channel: torch.Tensor
    down_channel: torch.Tensor

    def __init__(self, number: int, inner: int, size: int, code: str) -> None:
        super().__init__()
        self.code = code
        for name, rows, width in (("gate_up", 2 * inner, size), ("down", size, inner)):
            group, kind = (group_of(width), torch.bfloat16) if code == "int4" else (NVFP4_GROUP, FP8)
            packed = nn.Parameter(torch.empty(number, rows, width // 2, dtype=torch.uint8), requires_grad=False)
            self.register_parameter(f"{name}_proj", packed)
            scale = torch.empty(number, rows, width // group, dtype=kind)
            self.register_buffer(f"{name}_scale", scale, persistent=False)
            self.register_buffer(f"{name}_channel", torch.empty(number, rows), persistent=False)

    @property
    def gate_up(self) -> FourBit:
        """gate_up [E, 2f, d] as kernels take it."""
        return FourBit(self.get_parameter("gate_up_proj"), self.gate_up_scale, self.gate_up_channel, self.code)

    @property
    def down(self) -> FourBit:
        """down [E, d, f] as kernels take it."""
        return FourBit(self.get_parameter("down_proj"), self.down_scale, self.down_channel, self.code)

    def forward(self, x: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return experts_4bit_reference(x, weights, index, self.gate_up, self.down)

    def put(self, attribute: str, region: tuple[slice | int, ...], stored: Stored) -> None:
        """Write a part of `gate_up_proj` or `down_proj`."""
        name = attribute.removesuffix("_proj")
        packed, scale = getattr(self, attribute), getattr(self, f"{name}_scale")
        channel = getattr(self, f"{name}_channel")
        if self.code == "e2m1":
            assert stored.scale is not None
            assert stored.channel is not None
            packed[region], scale[region], channel[region] = stored.value, stored.scale, stored.channel
            return
        for part, one in stored.apart(region):
            packed[part], scale[part] = quantize_int4(one.plain())
            channel[part] = 1.0


QuantizedExperts = Fp8Experts | FourBitExperts


def quantize_experts(layer: Layer, form: str) -> None:
    """Replace a layer's plain experts (on meta) by ones of form `fp8`, `int4` or `e2m1`, not yet filled."""
    assert isinstance(layer.experts, Experts)
    number, size, inner = layer.experts.down_proj.shape
    made = Fp8Experts(number, inner, size) if form == "fp8" else FourBitExperts(number, inner, size, form)
    layer.register_module("experts", made)


def quantize_linear(parent: nn.Module, name: str) -> None:
    """Replace a module's plain linear map by one in FP8, not yet filled."""
    plain = parent.get_submodule(name)
    assert isinstance(plain, nn.Linear)
    setattr(parent, name, Fp8Linear(plain.in_features, plain.out_features))


def precision(model: DiffusionGemma) -> str:
    """The dtype and the forms of fewer bits, in words."""
    kinds = {type(module) for module in model.modules()}
    codes = sorted({module.code for module in model.modules() if isinstance(module, FourBitExperts)})
    fp8 = ["fp8"] if kinds & {Fp8Linear, Fp8Experts} else []
    names = {"int4": "int4 experts", "e2m1": "nvfp4 experts"}
    return " + ".join([str(model.dtype).removeprefix("torch."), *fp8, *(names[code] for code in codes)])


def count_parameters(model: DiffusionGemma) -> int:
    """How many parameters the network has, whatever their bits."""
    packed = {id(p) for m in model.modules() if isinstance(m, FourBitExperts) for p in m.parameters(recurse=False)}
    return sum(p.numel() * (2 if id(p) in packed else 1) for p in model.parameters())


def knows_fp8(device: torch.device) -> bool:
    """Whether the device computes FP8: a GPU in its units, a CPU by references."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 9)


def check_fp8(device: torch.device, *, wanted: bool) -> None:
    """Raises DeviceError where FP8 is wanted from a GPU without units for it."""
    if wanted and not knows_fp8(device):
        name = torch.cuda.get_device_name(device)
        fix = "take the bf16 release, with quantize int4 or none in its midspan.json"
        raise DeviceError(f"FP8 weights: {name} has no FP8 units; {fix}")
