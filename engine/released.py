"""Settings of the released checkpoint: it has no `midspan.json`, or one that names only what shall differ.

The sampler's are the release's generation_config.json but for the steps; nothing is calibrated, so all is shown.
"""

from __future__ import annotations

from typing import Any

from midspan.engine.features import FEATURES

# It knows no filler: lengths are tried, or an answer ends with its turn.
CHAT_LAYOUTS = ("prompted", "clamped")
NO_FILLER = -1
LANGUAGES = (
    *("python", "javascript", "typescript", "tsx", "go", "rust", "java", "c", "cpp", "csharp", "ruby", "php", "bash"),
    *("json", "yaml", "toml", "html", "css", "markdown", "sql", "lua"),
)
COMMON: dict[str, Any] = {
    "filler_id": NO_FILLER,
    "prefix_tokens": 2048,
    "suffix_tokens": 512,
    "context_tokens": 1024,
    "reuse_suffix": False,
    "steps": 16,
    "t_min": 0.4,
    "t_max": 0.8,
    "entropy_bound": 0.1,
    "confidence_threshold": 0.005,
    "languages": LANGUAGES,
    "show_threshold": 0.0,
    # The mean log-probability of a gap's tokens decides, until somebody fits the weights.
    "calibration": (0.0, *(float(name == "gap_mean") for name in FEATURES)),
}
BY_LAYOUT: dict[str, dict[str, Any]] = {
    # One length only: what is left of the canvas lies behind the end of the turn.
    "prompted": {"slots": (64,), "block_slots": (256,), "draws": 1, "keep": 1},
    "clamped": {
        "slots": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48),
        "block_slots": (4, 8, 16, 24, 32, 48, 64, 96, 128),
        "draws": 2,
        "keep": 3,
    },
}


def defaults(layout: str = "prompted") -> dict[str, Any]:
    """Every key of `midspan.json` that has a default in one of CHAT_LAYOUTS; none in another layout."""
    return {"layout": layout, **COMMON, **BY_LAYOUT[layout]} if layout in BY_LAYOUT else {}


def complaint(values: dict[str, Any]) -> str | None:
    """What is wrong with a layout's slots, or with a length bias; None where they fit."""
    if values["layout"] == "prompted" and not len(values["slots"]) == len(values["block_slots"]) == 1:
        return "layout 'prompted' has one length in slots and one in block_slots; give one each"
    lengths = len(values["slots"]) + len(values["block_slots"])
    if values.get("length_bias") and len(values["length_bias"]) != lengths:
        return f"length_bias has {len(values['length_bias'])} numbers for {lengths} lengths; fit it again"
    return None
