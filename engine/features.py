"""What a hypothesis' confidence is made of; `calibration` in `midspan.json` has a weight for each, in this order."""

FEATURES = (
    "gap_mean",
    "gap_min",
    "gap_sum",
    "suffix_mean",
    "suffix_min",
    "drawn",
    "nearby",
    "middle_sum",
    "middle_min",
    "end",
    "middle_root",
    "nearby_root",
    "beam",
    "margin",
    "parses",
)
"""Log-probabilities in nats of the gap's and the suffix head's tokens; whether a canvas came to it (1 or 0); what lines
near by say for it; log-probabilities of the gap's tokens and of its end by fill-in-the-middle, the square root of the
probability of both, in which being right is nearly linear, that root times what lines near by say (either is enough to
be sure), and whether its beam search came to it (zeros without `beams`); how far it stands before the next, in nats;
whether no judge objects."""
