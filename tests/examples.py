"""How many cases of a property are tried where one takes longer, or is checked sooner, than most."""

from __future__ import annotations

from hypothesis import Phase, settings

USUAL = 100
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)


def examples(count: int, *, shrink: bool = True) -> settings:
    """`count` cases where the usual property has a hundred: profiles of more cases have as many times more of these.

    Without `shrink` a failing case is reported as it was found.
    """
    usual = settings()
    return settings(max_examples=count * usual.max_examples // USUAL, phases=usual.phases if shrink else QUICK)
