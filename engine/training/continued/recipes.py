"""The sizes and rates of a continued training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRecipe:
    """Sizes of a row in tokens: all of it, the longest gap, what a suffix may take; shares of rows with context.

    `block_share` of the rows begin with pieces of other files, `path_share` of the others with the file's path.
    """

    tokens: int = 272
    longest_gap: int = 48
    suffix_tokens: int = 80
    block_share: float = 0.15
    path_share: float = 0.4


SHORT = RowRecipe()
LONG = RowRecipe(tokens=768, longest_gap=128, suffix_tokens=200, block_share=0.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that a run depends on besides base and corpus; `minutes` are of the process's own CPU time.

    Rows of `short` come first, those of `long` from `long_from` of the minutes on. Of each batch `positions` tokens
    are learnt: all gaps, and then text outside of them at `text_weight`.
    """

    minutes: float = 20.0
    short: RowRecipe = SHORT
    long: RowRecipe = LONG
    long_from: float = 2 / 3
    batch_tokens: int = 2304
    positions: int = 640
    text_weight: float = 0.3
    rate: float = 3e-4
    least_rate: float = 0.03
    warmup_steps: int = 20
    decay_share: float = 0.4
    weight_decay: float = 0.01
    save_minutes: float = 4.0
    measure_minutes: float = 30.0
    measure_rows: int = 16
    seed: int = 0
