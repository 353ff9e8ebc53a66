"""`midspan serve` with the scripted engine: python scripted_serve.py --state-dir D [...]."""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path

import midspan
import midspan.server.checkpoint_watch
import midspan.server.requests
from midspan.engine.api import CheckpointError, OnProgress
from midspan.server.app import serve
from midspan.server.settings import ServeOptions

# Run as a script: the repository's root is not on the path yet.
sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.server.scripted import ScriptedEngine

LINUX_CAPABILITY_VERSION_3 = 0x20080522


def obey_permissions() -> None:
    """Drop root's capabilities, so that file permissions hold for root too; nothing changes for other users."""
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--log-file", type=Path)
    parser.add_argument("--gate", type=Path, help="a FIFO: loading waits until it has been opened for writing")
    parser.add_argument("--gigabytes", type=int, default=0, help="loading reports progress of so many gigabytes")
    parser.add_argument("--refuse", help="loading raises CheckpointError with this message")
    parser.add_argument("--break", dest="broken", action="store_true", help="loading raises RuntimeError")
    parser.add_argument("--chatter", action="store_true", help="loading prints to stdout")
    parser.add_argument("--threshold-none", action="store_true", help="the engine's About is broken")
    parser.add_argument("--real", help="load this checkpoint with the real engine")
    parser.add_argument("--file-limit", type=int, help="files cannot grow beyond this many bytes")
    parser.add_argument("--prompts", type=Path, help="write every hole to this file")
    parser.add_argument("--context-tokens", type=int, default=0, help="how much context the engine reads")
    parser.add_argument("--elsewhere", action="store_true", help="the engine reads lines of other files")
    parser.add_argument("--debug", action="store_true", help="log the parts of every prompt")
    parser.add_argument("--patience", type=float, help="seconds after which the engine counts as hanging")
    parser.add_argument("--look-always", action="store_true", help="check for a replaced checkpoint at every request")
    parser.add_argument("--obey-permissions", action="store_true", help="file permissions hold even for root")
    parser.add_argument("--checkpoint", default="scripted", help="the name that the engine gives")
    parser.add_argument("--told-version", help="the version that the server reports")
    parser.add_argument("--out-of-memory", action="store_true", help="loading raises MemoryError")
    return parser.parse_args()


def prepare(args: argparse.Namespace) -> None:
    if args.obey_permissions:
        obey_permissions()
    if args.patience is not None:
        midspan.server.requests.PATIENCE_S = args.patience
    if args.told_version:
        midspan.__version__ = args.told_version
    if args.look_always:
        midspan.server.checkpoint_watch.LOOK_EVERY_S = 0.0
    if args.file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (args.file_limit, args.file_limit))


def main() -> int:
    args = read_arguments()
    prepare(args)

    def load(checkpoint: str, device: str, progress: OnProgress) -> ScriptedEngine:
        if args.gate:
            args.gate.read_bytes()
        for piece in range(1, 4 * args.gigabytes + 1):
            progress(10**9 * piece // 4, 10**9 * args.gigabytes)
        if args.chatter:
            sys.stdout.write("a library that prints\n")
            os.write(1, b"a C library that prints\n")
        if args.refuse:
            raise CheckpointError(args.refuse)
        if args.broken:
            raise RuntimeError("the scripted load broke")
        if args.out_of_memory:
            bytearray(sys.maxsize)
        logging.getLogger(__name__).info("scripted engine loaded")
        engine = ScriptedEngine(args.prompts)
        name = Path(args.checkpoint).stem
        engine.about = replace(engine.about, checkpoint=name)
        engine.about = replace(engine.about, context_tokens=args.context_tokens, reads_other_lines=args.elsewhere)
        if args.threshold_none:
            engine.about = replace(engine.about, show_threshold=None)  # type: ignore[arg-type]
        return engine

    options = ServeOptions(
        checkpoint=args.real or args.checkpoint,
        device="cpu",
        state_dir=args.state_dir,
        log_file=args.log_file,
        debug=args.debug,
    )
    return serve(options) if args.real else serve(options, load)


if __name__ == "__main__":
    sys.exit(main())
