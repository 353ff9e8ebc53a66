"""Time kernels on a GPU; each is compared with its reference first, and not timed if it differs.

A time is one call between two events, with the second-level cache flushed before it: p20, p50 and p80 of `repeats`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch

from midspan.engine.api import DeviceError
from midspan.engine.bench.cases import RELEASE, Case, Outputs, Sizes, cases
from midspan.engine.weights.quantized import knows_fp8

REPEATS = 50
FLUSHED_BYTES = 256 << 20
# By a part of the GPU's name: bytes a second, and operations a second in bf16 and FP8 (NVIDIA's data sheets, dense).
RATES: dict[str, dict[str, float]] = {
    "H200": {"memory": 4.8e12, "bf16": 989e12, "fp8": 1979e12},
    "H100": {"memory": 3.35e12, "bf16": 989e12, "fp8": 1979e12},
    "A100": {"memory": 2.04e12, "bf16": 312e12, "fp8": 312e12},
    "B200": {"memory": 8.0e12, "bf16": 2250e12, "fp8": 4500e12},
    "RTX 4090": {"memory": 1.01e12, "bf16": 165e12, "fp8": 330e12},
    "RTX 5090": {"memory": 1.79e12, "bf16": 210e12, "fp8": 419e12},
}


def gpu(name: str = "cuda") -> torch.device:
    """The GPU. Raises DeviceError with one line that names the fix if there is none."""
    if name == "cpu" or not torch.cuda.is_available():
        found = "torch sees no GPU here" if name != "cpu" else "--device cpu"
        raise DeviceError(
            f"kernels are timed on a GPU ({found}); run it on a machine with one, with a CUDA build of torch"
        )
    return torch.device("cuda")


def machine(device: torch.device) -> dict[str, str]:
    """The columns that say where a row was measured."""
    if device.type == "cpu":
        return {"gpu": "none (interpreter)", "driver": "none", "torch": torch.__version__}
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown (no nvidia-smi)"
    return {"gpu": torch.cuda.get_device_name(device), "driver": driver, "torch": torch.__version__}


def kernel_rows(device: torch.device, sizes: Sizes = RELEASE, repeats: int = REPEATS) -> Iterator[dict[str, Any]]:
    """A row for each op: times in ms and the share of the roofline, or `error` where it differs from its reference."""
    where = machine(device)
    for case in cases(sizes, device, fp8=knows_fp8(device)):
        yield {"op": case.op, "shape": case.shape, **case_row(case, device, where, repeats)}


def case_row(case: Case, device: torch.device, where: dict[str, str], repeats: int) -> dict[str, Any]:
    """One kernel's row on the machine `where`; see kernel_rows."""
    worst = difference(case.run(), case.reference())
    row: dict[str, Any] = {**where, "difference": worst}
    # Not a number is no less than the tolerance either.
    if not worst <= case.tolerance:
        return row | {"error": f"differs from its reference by {worst:.2g}, over {case.tolerance:.2g}: not timed"}
    times = timed(case.run, device, repeats)
    return row | times | {"share_of_roofline": share(case, times["p50_ms"], where["gpu"])}


def difference(got: Outputs, want: Outputs) -> float:
    """The greatest difference of any output, relative to its largest value."""
    worst = 0.0
    for one, other in zip(got, want, strict=True):
        apart = (one.double() - other.double()).abs().max() / other.double().abs().max().clamp(min=1e-30)
        if not float(apart) <= worst:
            worst = float(apart)
    return worst


def timed(run: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> dict[str, float]:
    """p20, p50 and p80 of a call in milliseconds, after three calls that are not timed."""
    if device.type == "cpu":
        times = []
        for _ in range(min(repeats, 2)):
            began = time.perf_counter()
            run()
            times.append(1000 * (time.perf_counter() - began))
    else:
        times = _between_events(run, repeats)
    low, middle, high = torch.tensor(times).quantile(torch.tensor([0.2, 0.5, 0.8])).tolist()
    return {"p20_ms": low, "p50_ms": middle, "p80_ms": high}


def _between_events(run: Callable[[], object], repeats: int) -> list[float]:
    for _ in range(3):
        run()
    flushed = torch.empty(FLUSHED_BYTES, dtype=torch.int8, device="cuda")
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for begin, end in pairs:
        flushed.zero_()
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) for begin, end in pairs]


def share(case: Case, ms: float, name: str) -> float | None:
    """The least time that the GPU's rates allow over the measured time; None for a GPU that is not listed."""
    rates = next((rates for part, rates in RATES.items() if part in name), None)
    if rates is None:
        return None
    least = max(case.bytes / rates["memory"], case.flops / rates[case.rate])
    return 1000 * least / ms


def sizes_row(sizes: Sizes) -> dict[str, Any]:
    """Sizes as a row shows them."""
    return {name: str(value) if isinstance(value, torch.dtype) else value for name, value in asdict(sizes).items()}
