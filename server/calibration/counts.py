"""What the record has of one checkpoint's suggestions by confidence: those that were seen, and those held back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from midspan.server.calibration.curve import Bin
from midspan.server.commands.errors import CommandError
from midspan.server.report.reading import TAKEN, opened

# Confidences are told apart to a thousandth.
FINE = 1000
CONFIDENCE = f"CAST({FINE} * confidence + 0.5 AS INTEGER)"
# What nobody has seen says nothing; what was taken was seen, whatever the client tells.
SEEN = (
    f"SELECT setup.language, {CONFIDENCE}, count(*), sum({TAKEN}) FROM completion JOIN setup ON setup.id = setup"
    f" WHERE digest = ? AND setup.trigger = 'automatic' AND (shown > 0 OR {TAKEN}) GROUP BY 1, 2 ORDER BY 1, 2"
)
BELOW = (
    f"SELECT setup.language, {CONFIDENCE}, count(*) FROM request JOIN setup ON setup.id = setup"
    " WHERE digest = ? AND setup.trigger = 'automatic' AND fate = 'below' GROUP BY 1, 2 ORDER BY 1, 2"
)


@dataclass(slots=True)
class Counts:
    """Of one language, or all, what came by itself: suggestions that were seen, and those that were not sure enough."""

    seen: list[Bin] = field(default_factory=list)
    below: list[Bin] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many were seen."""
        return sum(one.seen for one in self.seen)

    @property
    def taken(self) -> int:
        """How many of them were taken, whole or in part."""
        return sum(one.taken for one in self.seen)


def read_counts(store: Path, digest: str) -> dict[str, Counts]:
    """By language, for the checkpoint of this digest. Raises CommandError for a store that cannot be read."""
    if not store.is_file():
        raise CommandError(f"{store}: no suggestion was logged there yet; give the --state-dir of your server")
    found = defaultdict[str, Counts](Counts)
    with opened(store) as rows:
        for language, fine, seen, taken in rows.execute(SEEN, (digest,)):
            found[language].seen.append(Bin(fine / FINE, seen, taken))
        for language, fine, below in rows.execute(BELOW, (digest,)):
            found[language].below.append(Bin(fine / FINE, below, 0))
    return dict(found)


def together(counts: Sequence[Counts]) -> Counts:
    """Those of all languages."""
    return Counts(
        [one for each in counts for one in each.seen],
        [one for each in counts for one in each.below],
    )
