"""Keys of `midspan.json` as they were before it had groups; they are read for one release and named to the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from midspan.engine.weights.typed_json import KeyProblem

# Old key -> group and key of today. A `layout` that is a text is the old one.
OLD: dict[str, tuple[str, str]] = {
    "layout": ("layout", "kind"),
    "filler_id": ("layout", "filler_id"),
    "slots": ("layout", "slots"),
    "block_slots": ("layout", "block_slots"),
    "prefix_tokens": ("layout", "prefix_tokens"),
    "suffix_tokens": ("layout", "suffix_tokens"),
    "context_tokens": ("layout", "context_tokens"),
    "thought": ("layout", "empty_thinking"),
    "draws": ("denoise", "draws"),
    "keep": ("denoise", "survivors"),
    "steps": ("denoise", "steps"),
    "t_min": ("denoise", "t_min"),
    "t_max": ("denoise", "t_max"),
    "entropy_bound": ("denoise", "entropy_bound"),
    "confidence_threshold": ("denoise", "confidence_threshold"),
    "reuse_suffix": ("denoise", "reuse_suffix"),
    "beams": ("hypotheses", "beams"),
    "neighbours": ("hypotheses", "similar_lines"),
    "around_beams": ("hypotheses", "length_slack"),
    "length_bias": ("hypotheses", "length_bias"),
    "ranking": ("hypotheses", "ranking"),
    "languages": ("show", "languages"),
    "show_threshold": ("show", "show_threshold"),
    "calibration": ("show", "calibration"),
    "promising": ("show", "search_floor"),
    "early_exit": ("show", "early_exit"),
    "actions": ("show", "actions"),
}


def renamed(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The object with today's keys alone, and the path of each that was an old one -> the old one.

    Raises KeyProblem where a key is there twice, as the old one and as the new.
    """
    old = {key: value for key, value in values.items() if key in OLD and not (key == "layout" and _is_group(value))}
    out = {key: dict(value) if _is_group(value) else value for key, value in values.items() if key not in old}
    told = {}
    for key, value in old.items():
        group, name = OLD[key]
        here = out.setdefault(group, {})
        if not isinstance(here, dict) or name in here:
            raise KeyProblem(key, f"is an old key beside the new {group}.{name}; take it out")
        here[name] = _converted(key, value)
        told[f"{group}.{name}"] = key
    return out, told


def _converted(key: str, value: Any) -> Any:
    """An old key's value as the new key has it; one that is of no use stays as it is."""
    if key == "promising" and isinstance(value, list) and len(value) == 2:
        return dict(zip(("log_prob", "evidence"), value, strict=True))
    if key == "ranking":
        return _fim(value)
    if key == "early_exit" and isinstance(value, dict):
        named = {{"silent": "reject", "sure": "accept"}.get(name, name): one for name, one in value.items()}
        return named | ({"ranking": _fim(named["ranking"])} if "ranking" in named else {})
    return value


def _fim(ranking: Any) -> Any:
    """Weights whose `middle` is today's `fim`."""
    if not isinstance(ranking, dict):
        return ranking
    return {"fim" if name == "middle" else name: value for name, value in ranking.items()}


def _is_group(value: Any) -> bool:
    return isinstance(value, dict)
