"""`midspan report`: the figures of the local store, and how they are shown: as text, page, rows, metrics."""
