"""Hypothesis settings for properties that need more or fewer cases than usual."""

from __future__ import annotations

from hypothesis import Phase, settings

USUAL = 100
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)


def examples(count: int, *, shrink: bool = True) -> settings:
    """`count` cases in the profile `midspan`, where a property has a hundred; in other profiles proportionally more.

    Without `shrink` a failing case is reported as it was found.
    """
    usual = settings()
    return settings(max_examples=count * usual.max_examples // USUAL, phases=usual.phases if shrink else QUICK)
