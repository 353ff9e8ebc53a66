"""What `midspan calibrate --apply` leaves in the user's configuration file, and which of it holds for a fill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from midspan.server.calibration.curve import Curve

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Own(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One fit: the confidence below which nothing is shown unasked, and how often a confidence means a suggestion that
    is taken (`Curve`), from so many suggestions that were seen, some of which were taken."""

    threshold: Share
    bias: float
    slope: float
    seen: Count
    taken: Count

    @property
    def taken_at_threshold(self) -> float:
        """The share that is taken of suggestions as sure as the threshold."""
        return Curve(self.bias, self.slope).share(self.threshold)

    @property
    def words(self) -> str:
        """It for a person, with the way back."""
        share = f"of suggestions as sure as that {self.taken_at_threshold:.0%} are taken"
        return f"{self.threshold:.2f}, from {self.seen:,} suggestions of your own record ({share})"


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The fits for one checkpoint: for every language, and for those of which there was enough."""

    every: Own
    languages: dict[str, Own] = {}


Calibrations = Mapping[str, Calibration]
"""By the digest of the checkpoint (checkpoint_watch.py)."""


def own_for(calibrations: Calibrations, digest: str, language: str) -> Own | None:
    """What holds for a checkpoint in a language; None where the user has fitted nothing."""
    found = calibrations.get(digest)
    return None if found is None else found.languages.get(language, found.every)
