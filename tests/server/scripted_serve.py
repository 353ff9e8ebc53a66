"""`midspan serve` with the scripted engine: python scripted_serve.py --state-dir D [...]."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path

from midspan.engine.api import CheckpointError
from midspan.server.app import ServeOptions, serve

# Run as a script: the repository's root is not on the path yet.
sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.server.scripted import ScriptedEngine


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--log-file", type=Path)
    parser.add_argument("--gate", type=Path, help="a FIFO: loading waits until it has been opened for writing")
    parser.add_argument("--refuse", help="loading raises CheckpointError with this message")
    parser.add_argument("--break", dest="broken", action="store_true", help="loading raises RuntimeError")
    parser.add_argument("--chatter", action="store_true", help="loading prints to stdout")
    parser.add_argument("--languages-none", action="store_true", help="the engine's About is broken")
    parser.add_argument("--real", help="load this checkpoint with the real engine")
    parser.add_argument("--file-limit", type=int, help="files cannot grow beyond this many bytes")
    args = parser.parse_args()
    if args.file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (args.file_limit, args.file_limit))

    def load(checkpoint: str, device: str) -> ScriptedEngine:
        if args.gate:
            args.gate.read_bytes()
        if args.chatter:
            sys.stdout.write("a library that prints\n")
            os.write(1, b"a C library that prints\n")
        if args.refuse:
            raise CheckpointError(args.refuse)
        if args.broken:
            raise RuntimeError("the scripted load broke")
        logging.getLogger(__name__).info("scripted engine loaded")
        engine = ScriptedEngine()
        if args.languages_none:
            engine.about = replace(engine.about, languages=None)  # type: ignore[arg-type]
        return engine

    options = ServeOptions(
        checkpoint=args.real or "scripted", device="cpu", state_dir=args.state_dir, log_file=args.log_file
    )
    return serve(options) if args.real else serve(options, load)


if __name__ == "__main__":
    sys.exit(main())
