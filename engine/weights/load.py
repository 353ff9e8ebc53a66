"""Finds a checkpoint's folder and reads its tensors into a network's parameters, one tensor at a time.

safetensors.py knows how tensors are stored, quantized.py how weights of fewer bits are kept, numbers.py which numbers
no weights have.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from midspan.engine.api import CheckpointError, DeviceError, OnProgress
from midspan.engine.model import DiffusionGemma, Experts, Layer, ModelConfig
from midspan.engine.settings import Quantize
from midspan.engine.weights.numbers import check_numbers
from midspan.engine.weights.quantized import (
    Fp8Linear,
    QuantizedExperts,
    check_fp8,
    precision,
    quantize_experts,
    quantize_linear,
)
from midspan.engine.weights.safetensors import Entry, Piece, catalogue, open_file, pieces, read, weight_files
from midspan.engine.weights.typed_json import one_line, read_object
from midspan.kernels.int8 import int8_rows

EMBEDDED = Path(__file__).parents[1] / "checkpoints" / "embedded"
DECODER, ENCODER = "model.decoder.", "model.encoder.language_model."
VISION = ("model.encoder.vision_tower.", "model.encoder.embed_vision.")
# The text network has no vision half, and its head is the embedding.
IGNORED = (*VISION, "lm_head.weight")
LAYER = re.compile(re.escape(DECODER) + r"layers\.(\d{1,4})\.")
# The most bytes of one file of weights: some hosts limit files to 16 MiB.
SHARD = 16_000_000


class Uninitialised(TorchFunctionMode):
    """Modules that are made under it are not initialised, as weights are read into them.

    On `meta`, random initial weights would import all of torch's compiler.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Skip the functions of torch.nn.init, run all others."""
        named = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)


def resolve(checkpoint: str) -> Path:
    """The folder of `embedded`, of a path, or of a hub name that is already in the local cache."""
    if checkpoint == "embedded":
        return EMBEDDED
    if not checkpoint:
        # Path("") is the working folder, which may be anybody's.
        raise CheckpointError("no checkpoint is named; give 'embedded', a checkpoint folder or a cached hub name")
    try:
        folder = Path(checkpoint).expanduser()
        if folder.is_dir():
            return folder
        if folder.exists():
            raise CheckpointError(f"{folder}: not a folder; give the folder that holds config.json")
    except (OSError, RuntimeError) as error:
        # A name that is too long, a folder that may not be entered, or ~ of nobody.
        raise CheckpointError(f"{checkpoint[:80]}: {one_line(error)}; give another folder") from error
    if checkpoint.count("/") != 1 or checkpoint.startswith((".", "/", "~")):
        raise CheckpointError(f"{folder}: no such folder; give 'embedded', a checkpoint folder or a cached hub name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(checkpoint, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        fix = f"download it first (hf download {checkpoint}) or give a folder"
        raise CheckpointError(f"{checkpoint}: no such folder, nor in the local hub cache; {fix}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint folder. Raises CheckpointError naming the file."""
    return read_object(folder / "config.json")


def check_weights(folder: Path, config: ModelConfig, device: torch.device) -> None:
    """Compare the headers of the folder's weights with a config, before anything as large as it says is allocated.

    Raises CheckpointError for a missing, unexpected or wrongly shaped tensor, a damaged file, or pickles; DeviceError
    for a device that cannot hold a network that is made in its memory at once (choose.load_network).
    """
    entries = catalogue(folder)
    layers = len({found[1] for name in entries if (found := LAYER.match(name))})
    if layers and layers != len(config.layers):
        says = f"text_config.num_hidden_layers is {len(config.layers)}, the weights have {layers} layers"
        raise CheckpointError(f"{folder / 'config.json'}: {says}; copy both from one checkpoint")
    with torch.device("meta"), Uninitialised():
        model = DiffusionGemma(config)
    _fitting(model, folder, entries)
    if config.experts == 1:
        check_memory(device, sum(4 * tensor.numel() for tensor in model.state_dict().values()))


def table(model: DiffusionGemma) -> dict[str, torch.Tensor]:
    """Checkpoint name -> the model's tensor, for every tensor of a whole checkpoint."""
    names = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name.endswith("encoder_layer_scalar"):
            names[ENCODER + name.replace("encoder_layer_scalar", "layer_scalar")] = tensor
        else:
            names[DECODER + name] = tensor
    return names


def load_weights(
    model: DiffusionGemma,
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    *,
    quantize: Quantize = "none",
    progress: OnProgress | None = None,
) -> frozenset[str]:
    """Fill the model's tensors from the folder's safetensors, as `dtype` on `device`; the model may be on `meta`.

    Returns the forms that the tensors were stored in ("plain", "int8", "fp8", "nvfp4"). Tensors go to the device one by
    one, file by file. FP8 and NVFP4 stay as they are; `quantize` fp8 quantises the matrices of layers there, int4 those
    of experts. Raises CheckpointError before anything is read for a missing, unexpected or wrongly shaped tensor, a
    damaged file or a pickle, and while it is read for numbers that no weights have; DeviceError for a device that
    cannot hold the weights or has no units for them.
    """
    model.to(dtype=dtype)
    entries = catalogue(folder)
    parts, shared = _fitting(model, folder, entries)
    _choose_forms(model, parts, quantize, folder)
    check_fp8(device, wanted="fp8" in precision(model))
    check_memory(device, sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()))
    if model.device.type == "meta":
        model.to_empty(device=device)
        model.embed_scale.fill_(model.config.hidden_size**0.5)
    model.to(device=device)
    targets = table(model)
    with torch.no_grad():
        for piece, stored in read(parts, entries, progress):
            check_numbers(piece, stored, entries[piece.name].file)
            owner = model.get_submodule(_module(piece.target))
            if isinstance(owner, Fp8Linear | QuantizedExperts):
                owner.put(piece.target.rpartition(".")[2], piece.region, stored.to(device))
            else:
                targets[piece.target][piece.region] = stored.to(device).plain()
        for name in shared:
            targets[name].copy_(targets[_twin(name)])
    return frozenset(piece.form for piece in parts)


def _fitting(model: DiffusionGemma, folder: Path, entries: Mapping[str, Entry]) -> tuple[list[Piece], tuple[str, ...]]:
    """The pieces that fill the model, and the names that take what their twin in the decoder has."""
    wanted, shared = _wanted(model, entries)
    parts = pieces(folder, entries, wanted, lambda name: name.startswith(IGNORED) or _is_tied(name, wanted, entries))
    return parts, shared


def _wanted(model: DiffusionGemma, entries: Mapping[str, object]) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """Checkpoint name -> shape of every tensor that must be there, and the names that take their twin's values.

    The encoder's layer scalars equal the decoder's in the release, so a checkpoint may hold them once.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in table(model).items()}
    own = tuple(name for name in wanted if name.startswith(ENCODER))
    if any(name in entries for name in own):
        return wanted, ()
    return {name: shape for name, shape in wanted.items() if name not in own}, own


def check_memory(device: torch.device, needed: int) -> None:
    """Raises DeviceError where the device is a CPU whose machine has less than `needed` bytes of memory."""
    if device.type != "cpu" or not hasattr(os, "sysconf"):
        return
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        sizes = f"{needed / 1e9:.0f} GB of memory, this machine has {there / 1e9:.0f}"
        raise DeviceError(f"device cpu: the weights need {sizes}; use --device cuda or a smaller checkpoint")


def _choose_forms(model: DiffusionGemma, parts: list[Piece], quantize: Quantize, folder: Path) -> None:
    """Replace modules by ones of fewer bits where the checkpoint has those, or where `quantize` asks for them."""
    if quantize == "int4" and (model.config.hidden_size % 2 or model.config.expert_size % 2):
        need = "hidden_size and moe_intermediate_size are not both even"
        raise CheckpointError(f"{folder / 'midspan.json'}: quantize is int4, but {need}; take it out")
    forms = defaultdict[str, set[str]](set)
    for piece in parts:
        forms[_module(piece.target)].add(piece.form)
    for name, stored in forms.items():
        owner = model.get_submodule(name)
        # Made where the model is, so that on `meta` it takes no memory yet.
        with torch.device(model.device):
            if isinstance(owner, Experts) and (form := _expert_form(stored, quantize, folder)) is not None:
                layer = model.get_submodule(name.removesuffix(".experts"))
                assert isinstance(layer, Layer)
                quantize_experts(layer, form)
            elif isinstance(owner, nn.Linear) and not name.endswith(".router.proj"):
                inside = ".self_attn." in name or ".mlp." in name
                if "fp8" in stored or (quantize == "fp8" and inside):
                    parent, _, child = name.rpartition(".")
                    quantize_linear(model.get_submodule(parent), child)


def _expert_form(stored: set[str], quantize: Quantize, folder: Path) -> str | None:
    """The form of one layer's experts, the same for both matrices; None for plain."""
    if "nvfp4" in stored:
        if quantize != "none":
            raise CheckpointError(f"{folder}: its experts are NVFP4 already; take quantize out of midspan.json")
        if stored != {"nvfp4"}:
            raise CheckpointError(f"{folder}: some experts of a layer are NVFP4 and some are not; copy it again")
        return "e2m1"
    if quantize == "int4":
        return "int4"
    return "fp8" if quantize == "fp8" or "fp8" in stored else None


def _module(name: str) -> str:
    """A checkpoint name's module in our network."""
    return name.removeprefix(ENCODER).removeprefix(DECODER).rpartition(".")[0]


def _is_tied(name: str, wanted: Mapping[str, object], entries: Mapping[str, object]) -> bool:
    """Whether it is an encoder tensor that the decoder holds too, in any form; only the layer scalars differ."""
    twin = _twin(name)
    return name.startswith(ENCODER) and name not in wanted and (twin in wanted or twin in entries)


def _twin(name: str) -> str:
    """The decoder's name of an encoder tensor."""
    return DECODER + name.removeprefix(ENCODER)


def vision_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint's vision half, which the network does not have, by checkpoint name."""
    out: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        with open_file(file) as tensors:
            out |= {name: tensors.get_tensor(name) for name in tensors.keys() if name.startswith(VISION)}  # noqa: SIM118
    return out


def save_weights(
    model: DiffusionGemma, folder: Path, *, int8: bool, vision: dict[str, torch.Tensor] | None = None
) -> None:
    """Write safetensors files under the release's names; matrices as int8 with a scale a row if `int8`.

    `vision` is written as it is.
    """
    out = dict(vision or {})
    for name, tensor in table(model).items():
        if int8 and tensor.ndim >= 2:
            out[name], out[name + "_scale"] = int8_rows(tensor)
        else:
            out[name] = tensor.detach().contiguous()
    write_shards(out, folder)


def write_shards(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    """Write safetensors files; more bytes than SHARD become several files with an index, as on the hub."""
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict(tensors, folder, max_shard_size=SHARD, metadata={"format": "pt"})
    # safetensors' files may be read by their owner alone.
    for file in folder.glob("model*.safetensors"):
        file.chmod(0o644)
