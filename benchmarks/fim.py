"""A continued checkpoint of the llama family on held-out gaps: `record.py fim.py CHECKPOINT --corpus FOLDER`."""

from __future__ import annotations

from midspan.engine.training.continued.evaluate import main

if __name__ == "__main__":
    main()
