"""Checkpoint tensors -> parameters, as one table; safetensors only, one tensor at a time.

int8 checkpoints store a matrix as int8 with `<name>_scale` beside it, one scale for each output row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from midspan.engine.api import CheckpointError
from midspan.engine.model import DiffusionGemma

EMBEDDED = Path(__file__).parent / "checkpoints" / "embedded"
DECODER, ENCODER = "model.decoder.", "model.encoder.language_model."
VISION = ("model.encoder.vision_tower.", "model.encoder.embed_vision.")
# The text network does not see pictures, and the head is the embedding.
IGNORED = (*VISION, "lm_head.weight")
FLOATS, INT8 = ("F32", "BF16", "F16"), ("I8",)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def resolve(checkpoint: str) -> Path:
    """The folder of `embedded`, of a path, or of a hub name that is already in the local cache."""
    if checkpoint == "embedded":
        return EMBEDDED
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{folder}: not a folder; give the folder that holds config.json")
    if checkpoint.count("/") != 1 or checkpoint.startswith((".", "/", "~")):
        raise CheckpointError(f"{folder}: no such folder; give 'embedded', a checkpoint folder or a cached hub name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(checkpoint, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        mend = f"download it first (hf download {checkpoint}) or give a folder"
        raise CheckpointError(f"{checkpoint}: no such folder, nor in the local hub cache; {mend}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint folder. Raises CheckpointError naming the file."""
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointError(f"{file}: missing; a checkpoint folder holds config.json, safetensors, tokenizer.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: not valid JSON ({error}); restore it from the checkpoint's source") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{file}: not a JSON object; restore it from the checkpoint's source")
    return config


def table(model: DiffusionGemma) -> dict[str, torch.Tensor]:
    """Checkpoint name -> the model's tensor, for every tensor that a checkpoint must hold."""
    names = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name.endswith("encoder_layer_scalar"):
            names[ENCODER + name.replace("encoder_layer_scalar", "layer_scalar")] = tensor
        else:
            names[DECODER + name] = tensor
    return names


def load_weights(model: DiffusionGemma, folder: Path, dtype: torch.dtype, device: torch.device) -> None:
    """Fill the model's tensors from the folder's safetensors, as `dtype` on `device`.

    Raises CheckpointError for a missing, unexpected or wrongly shaped tensor, a damaged file, or pickles.
    """
    model.to(dtype=dtype, device=device)
    wanted = table(model)
    found: set[str] = set()
    for file in _files(folder):
        with _open(file) as tensors:
            names = set(tensors.keys())
            for name in sorted(names):
                if name.startswith(IGNORED) or _is_scale(name, names) or _is_tied(name, wanted):
                    continue
                if name not in wanted:
                    raise CheckpointError(f"{file}: unexpected tensor {name}; config.json does not fit these weights")
                _copy(file, name, tensors, name + "_scale" in names, wanted[name])
                found.add(name)
    missing = sorted(wanted.keys() - found)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(f"{folder}: tensor {missing[0]}{more} missing; copy the whole checkpoint again")


def _files(folder: Path) -> list[Path]:
    """The safetensors files: those the index names, else model.safetensors."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{index}: not a safetensors index ({error}); restore it") from error
        files = [folder / name for name in names]
    else:
        files = [folder / "model.safetensors"]
    for file in files:
        if file.is_file():
            continue
        pickles = sorted(found.name for pattern in PICKLES for found in folder.glob(pattern))
        if pickles:
            raise CheckpointError(f"{folder / pickles[0]}: a pickle is never loaded; convert it to {file.name}")
        raise CheckpointError(f"{file}: missing; copy the whole checkpoint again")
    return files


def _open(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: truncated or not safetensors ({error}); copy it again") from error


def _is_scale(name: str, names: set[str]) -> bool:
    return name.endswith("_scale") and name.removesuffix("_scale") in names


def _is_tied(name: str, wanted: dict[str, torch.Tensor]) -> bool:
    """An encoder tensor that the decoder holds too; only the layer scalars differ."""
    return name.startswith(ENCODER) and name not in wanted and DECODER + name.removeprefix(ENCODER) in wanted


def _copy(file: Path, name: str, tensors: Any, scaled: bool, target: torch.Tensor) -> None:
    stored = tensors.get_slice(name)
    shape, dtype = tuple(stored.get_shape()), stored.get_dtype()
    if shape != tuple(target.shape):
        raise CheckpointError(f"{file}: {name} has shape {list(shape)}, config.json says {list(target.shape)}")
    if dtype not in (INT8 if scaled else FLOATS):
        mend = f"int8 needs {name}_scale beside it" if dtype in INT8 else "use the bf16 release"
        raise CheckpointError(f"{file}: {name} is stored as {dtype}, which is not read here; {mend}")
    value = tensors.get_tensor(name)
    if scaled:
        scale = tensors.get_tensor(name + "_scale")
        if tuple(scale.shape) != shape[:-1]:
            wanted = list(shape[:-1])
            raise CheckpointError(f"{file}: {name}_scale has shape {list(scale.shape)}, not {wanted}; quantise again")
        value = value.float() * scale.float().unsqueeze(-1)
    with torch.no_grad():
        target.copy_(value)


def vision_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The vision half of a checkpoint, which the network leaves alone, by checkpoint name."""
    out: dict[str, torch.Tensor] = {}
    for file in _files(folder):
        with _open(file) as tensors:
            out |= {name: tensors.get_tensor(name) for name in tensors.keys() if name.startswith(VISION)}  # noqa: SIM118
    return out


def save_weights(
    model: DiffusionGemma, folder: Path, *, int8: bool, vision: dict[str, torch.Tensor] | None = None
) -> None:
    """Write model.safetensors under the release's names; matrices as int8 with a scale a row if `int8`.

    `vision` is written as it is.
    """
    out = dict(vision or {})
    for name, tensor in table(model).items():
        value = tensor.detach().float()
        if int8 and value.ndim >= 2:
            scale = value.abs().amax(dim=-1).clamp(min=1e-12) / 127
            out[name] = torch.round(value / scale.unsqueeze(-1)).to(torch.int8)
            out[name + "_scale"] = scale
        else:
            out[name] = tensor.detach().contiguous()
    file = folder / "model.safetensors"
    save_file(out, file, metadata={"format": "pt"})
    # safetensors makes files that only their owner may read.
    file.chmod(0o644)
