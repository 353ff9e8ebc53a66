"""What a hypothesis' confidence is made of; `calibration` in `midspan.json` has a weight for each, in this order."""

FEATURES = ("gap_mean", "gap_min", "gap_sum", "suffix_mean", "suffix_min", "drawn", "nearby", "margin", "parses")
"""Log-probabilities in nats of the gap's and the suffix head's tokens; whether a canvas came to it (1 or 0); what lines
near by say for it; how far it stands before the next, in nats; whether no judge objects (1 or 0)."""
