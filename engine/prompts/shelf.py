"""Snippets of other text in an order that changes as little as it can, so that a cache of what is read of them holds.

Neither torch nor a tokenizer is needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Shelf:
    """Remembers in which order snippets stood at the last prompt."""

    def __init__(self) -> None:
        self._order: list[str] = []

    def arranged(self, wanted: Sequence[str]) -> list[str]:
        """The same snippets, each once: those of the last prompt first and in its order, new ones behind."""
        distinct = dict.fromkeys(wanted)
        kept = [one for one in self._order if one in distinct]
        self._order = list(dict.fromkeys((*kept, *distinct)))
        return list(self._order)


def that_fit(context: Sequence[str], most: int, size: Callable[[str], int]) -> list[str]:
    """The last distinct snippets whose sizes come to at most `most` together; those in front are left out."""
    fitting, room = dict[str, None](), most
    for snippet in reversed(context):
        if snippet in fitting:
            continue
        room -= size(snippet)
        if room < 0:
            break
        fitting[snippet] = None
    return list(reversed(fitting))
