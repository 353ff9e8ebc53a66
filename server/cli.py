"""The command line `midspan`. Only this module reads arguments and environment."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import midspan
from midspan.engine import working_folder_is_gone
from midspan.engine.api import CheckpointError, DeviceError, RemoteError
from midspan.server.backends.configured import NOTHING, configured_file, read_configured
from midspan.server.batch.options import add_batch
from midspan.server.bench.load_options import add_load
from midspan.server.calibration.options import add_calibrate
from midspan.server.commands.arguments import few, ports, position, positive, seed, share
from midspan.server.commands.errors import CommandError
from midspan.server.replay.options import add_replay
from midspan.server.report.options import add_options as add_report_options
from midspan.server.settings import ServeOptions


class OneLine(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """End the process with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help tells more\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns 0, 2 for bad arguments, 1 for a failed run, 130 when interrupted."""
    arguments = parser(os.environ).parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    arguments.engines_file = configured_file(os.environ)
    try:
        if working_folder_is_gone():
            _refuse_relative(arguments)
        _log_to(arguments.log_file)
        return run(arguments)
    except (CommandError, CheckpointError, DeviceError, RemoteError) as error:
        print(f"midspan: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("midspan: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has left: nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def state_home(environment: Mapping[str, str]) -> Path:
    """The platform's folder for state: XDG, macOS's Library, or Windows's local data."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "midspan"
    if sys.platform == "win32":
        return Path(environment.get("LOCALAPPDATA", str(Path.home()))) / "midspan"
    return Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "midspan"


def parser(environment: Mapping[str, str]) -> OneLine:
    """Every command with its options."""
    common, chosen = OneLine(add_help=False), OneLine(add_help=False)
    what = "embedded, a folder, a GGUF file, or a hub name in the local cache"
    for one, default in ((common, "embedded"), (chosen, None)):
        if_none = "" if default else "; if not given, what `midspan models use` chose"
        one.add_argument("--checkpoint", default=default, help=what + if_none)
        _add_common(one, environment)
    out = OneLine(prog="midspan", description="Fills the gap at the cursor.")
    out.add_argument("--version", action="version", version=midspan.__version__)
    commands = out.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", parents=[chosen], help="speak LSP over stdio")
    serve.add_argument("--debug", action="store_true", help="log what prompts are made of; never code")
    serve.set_defaults(run=_serve)
    _add_fill(commands.add_parser("fill", parents=[chosen], help="fill one gap of a file"))
    add_batch(commands.add_parser("batch", parents=[chosen], help="fill the marked gaps of a tree"), _choose)
    doctor = commands.add_parser("doctor", parents=[chosen], help="what runs here, and what to fix")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=_doctor)
    report = commands.add_parser("report", parents=[common], help="what became of the suggestions")
    add_report_options(report)
    report.set_defaults(run=_report)
    add_replay(commands.add_parser("replay", parents=[common], help="what midspan would save in files of yours"))
    calibrate = commands.add_parser("calibrate", parents=[chosen], help="fit what is shown to what you take")
    add_calibrate(calibrate)
    calibrate.set_defaults(run=_calibrate)
    _add_models(
        commands.add_parser("models", parents=[chosen], help="what models are at hand, and what suits this machine")
    )
    _add_backends(commands.add_parser("backends", parents=[common], help="engines on other servers, and how they are"))
    bench = commands.add_parser("bench", help="measure").add_subparsers(dest="bench", required=True, metavar="WHAT")
    _add_quality(bench.add_parser("quality", parents=[common], help="pass@1 in HumanEval-Infilling's schema"))
    _add_keystroke(bench.add_parser("keystroke", parents=[common], help="latency through the real server"))
    _add_soak(bench.add_parser("soak", parents=[common], help="the server's memory over hours of typing"))
    _add_replay(bench.add_parser("replay", parents=[common], help="keys saved in held-out files"))
    add_load(bench.add_parser("load", parents=[common], help="one engine under the typing of many people"))
    _add_kernels(bench.add_parser("kernels", parents=[common], help="every kernel on this GPU, against its reference"))
    return out


def _add_common(one: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    one.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    one.add_argument("--state-dir", type=Path, default=state_home(environment), help="where telemetry is kept")
    one.add_argument("--log-file", type=Path, help="log there instead of to stderr; `serve` keeps 8 MB at most")


def _add_models(models: argparse.ArgumentParser) -> None:
    models.add_argument("--json", action="store_true")
    models.add_argument(
        "--no-estimate", dest="estimate", action="store_false", help="measure nothing: list within a second"
    )
    models.set_defaults(run=_models)
    verbs = models.add_subparsers(dest="verb", metavar="VERB", help="without one, models are listed")
    use = verbs.add_parser("use", help="take a model that is at hand from now on, where --checkpoint names none")
    use.add_argument("name", metavar="NAME", help="one that `midspan models` lists, or its path")
    use.set_defaults(run=_models_use)
    get = verbs.add_parser("get", help="fetch a model from the hub: its data files, checked; nothing is executed")
    get.add_argument("name", metavar="NAME", help="one that `midspan models` says can be fetched")
    get.set_defaults(run=_models_get)
    remove = verbs.add_parser("remove", help="remove a model from the hub's cache")
    remove.add_argument("name", metavar="NAME", help="one that `midspan models` lists, or its path")
    remove.set_defaults(run=_models_remove)


def _add_engine(one: argparse.ArgumentParser) -> None:
    what = "diffusion or autoregressive, two readings of the local checkpoint, or one that midspan backends lists"
    one.add_argument("--engine", metavar="NAME", help=what)


def _add_backends(backends: argparse.ArgumentParser) -> None:
    backends.add_argument("--json", action="store_true")
    backends.add_argument("--probe", action="store_true", help="ask each how it is and what it can")
    backends.set_defaults(run=_backends)
    verbs = backends.add_subparsers(dest="verb", metavar="VERB", help="without one, what is configured is listed")
    find = verbs.add_parser("find", help="look at the usual ports of this machine, and print the lines to add")
    find.add_argument("--ports", type=ports, metavar="P,P", help="others than the usual ones")
    find.add_argument("--json", action="store_true")
    find.set_defaults(run=_backends_find)


def _add_kernels(kernels: argparse.ArgumentParser) -> None:
    kernels.add_argument("--json", action="store_true")
    kernels.set_defaults(run=_kernels)


def _add_fill(fill: argparse.ArgumentParser) -> None:
    fill.add_argument("file", type=Path, metavar="FILE")
    fill.add_argument("--at", type=position, required=True, metavar="LINE:COL", help="1-based, columns in code points")
    fill.add_argument("--to", type=position, metavar="LINE:COL", help="replace the text from --at up to here")
    fill.add_argument("--candidates", type=few, default=1, metavar="N", help="at most 20")
    fill.add_argument("--seed", type=seed, default=0, metavar="S")
    _add_engine(fill)
    fill.add_argument("--watch", action="store_true", help="draw the canvas as it settles")
    fill.add_argument("--explain", action="store_true", help="print what the prompt is made of, code included")
    fill.add_argument("--json", action="store_true")
    fill.set_defaults(run=_fill)


def _add_quality(quality: argparse.ArgumentParser) -> None:
    quality.add_argument("--tasks", type=Path, required=True, metavar="FILE.jsonl[.gz]")
    quality.add_argument("--limit", type=positive, metavar="N", help="a seeded sample of N tasks")
    _add_engine(quality)
    quality.add_argument("--seed", type=seed, default=0, metavar="S")
    quality.add_argument("--json", action="store_true")
    quality.set_defaults(run=_quality)


def _add_keystroke(keystroke: argparse.ArgumentParser) -> None:
    keystroke.add_argument("--limit", type=positive, default=400, metavar="N", help="keys typed in each file")
    keystroke.add_argument("--lines", type=positive, default=20_000, metavar="N", help="lines of the longest file")
    keystroke.add_argument("--json", action="store_true")
    keystroke.set_defaults(run=_keystroke)


def _add_soak(soak: argparse.ArgumentParser) -> None:
    soak.add_argument("--minutes", type=positive, default=60, metavar="N", help="minutes of typing, in time-lapse")
    soak.add_argument("--no-workspace", dest="workspace", action="store_false", help="open no folder")
    soak.add_argument("--json", action="store_true")
    soak.set_defaults(run=_soak)


def _add_replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument("--files", type=Path, required=True, metavar="FILE.jsonl", help="the corpus's heldout.jsonl")
    replay.add_argument("--limit", type=positive, default=100, metavar="N", help="lines retyped")
    replay.add_argument("--seed", type=seed, default=0, metavar="S", help="which lines")
    replay.add_argument("--no-workspace", dest="workspace", action="store_false", help="open no package's folder")
    replay.add_argument("--show-threshold", type=share, metavar="T", help="the checkpoint's if not given")
    replay.add_argument("--json", action="store_true")
    replay.set_defaults(run=_replay)


def _refuse_relative(arguments: argparse.Namespace) -> None:
    """Raises CommandError for a path that is looked for in the working folder, which is gone."""
    paths = [path for path in vars(arguments).values() if isinstance(path, Path)]
    checkpoint: str = getattr(arguments, "checkpoint", None) or "embedded"
    # What has one slash within may be the hub's name for it.
    if checkpoint != "embedded" and (checkpoint.startswith(".") or checkpoint.count("/") != 1):
        paths.append(Path(checkpoint))
    for path in paths:
        if not path.is_absolute() and path.parts[:1] != ("~",):
            raise CommandError(
                f"{path}: the working folder is gone; give the whole path, or go to a folder that exists"
            )


def _log_to(file: Path | None) -> None:
    if file is None:
        return
    try:
        handler = logging.FileHandler(file)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}; give a --log-file that can be written") from error
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(handlers=[handler], level=logging.INFO, format=form, force=True)
    # pygls logs whole messages, with the user's code, below ERROR.
    logging.getLogger("pygls").setLevel(logging.ERROR)


def _choose(arguments: argparse.Namespace) -> None:
    """Put the checkpoint that is taken into the arguments, and who chose it. Raises CommandError."""
    from midspan.server.models.configuration import choose_there, configuration_file

    arguments.configuration = configuration_file(os.environ)
    choice = choose_there(arguments.checkpoint, arguments.configuration)
    arguments.checkpoint, arguments.chosen_by = choice.checkpoint, choice.by


def _serve(arguments: argparse.Namespace) -> int:
    from midspan.server.app import serve
    from midspan.server.models.configuration import calibrated_there

    refused, configured, misconfigured = None, NOTHING, None
    try:
        _choose(arguments)
    except CommandError as error:
        # Said on stderr alone, it would reach nobody in an editor.
        refused = str(error)
    try:
        configured = read_configured(arguments.engines_file)
    except CommandError as error:
        misconfigured = str(error)
    calibrations, uncalibrated = calibrated_there(arguments.configuration)
    options = ServeOptions(
        checkpoint=arguments.checkpoint or "no checkpoint",
        device=arguments.device,
        state_dir=arguments.state_dir,
        log_file=arguments.log_file,
        debug=arguments.debug,
        refused=refused,
        configured=configured,
        misconfigured=misconfigured,
        calibrations=calibrations,
        # A file that says no checkpoint either is told of once.
        uncalibrated=uncalibrated if refused is None else None,
    )
    try:
        return serve(options)
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}; give a --log-file that can be written") from error


def _fill(arguments: argparse.Namespace) -> int:
    from midspan.server.commands.fill import fill_command

    _choose(arguments)
    return fill_command(arguments)


def _doctor(arguments: argparse.Namespace) -> int:
    from midspan.server.commands.doctor import doctor_command

    _choose(arguments)
    return doctor_command(arguments)


def _report(arguments: argparse.Namespace) -> int:
    from midspan.server.commands.report import report_command

    return report_command(arguments)


def _calibrate(arguments: argparse.Namespace) -> int:
    from midspan.server.commands.calibrate import calibrate_command

    _choose(arguments)
    return calibrate_command(arguments)


def _models(arguments: argparse.Namespace) -> int:
    from midspan.server.commands.models import list_command

    return list_command(arguments, os.environ)


def _models_use(arguments: argparse.Namespace) -> int:
    from midspan.server.commands.models import use_command

    return use_command(arguments, os.environ)


def _models_get(arguments: argparse.Namespace) -> int:
    from midspan.server.commands.models import get_command

    return get_command(arguments, os.environ)


def _models_remove(arguments: argparse.Namespace) -> int:
    from midspan.server.commands.models import remove_command

    return remove_command(arguments, os.environ)


def _backends(arguments: argparse.Namespace) -> int:
    from midspan.server.commands.backends import backends_command

    return backends_command(arguments, os.environ)


def _backends_find(arguments: argparse.Namespace) -> int:
    from midspan.server.commands.backends import find_command

    return find_command(arguments, os.environ)


def _quality(arguments: argparse.Namespace) -> int:
    from midspan.server.bench.quality import quality_command

    return quality_command(arguments)


def _keystroke(arguments: argparse.Namespace) -> int:
    from midspan.server.bench.keystroke import keystroke_command

    return keystroke_command(arguments)


def _soak(arguments: argparse.Namespace) -> int:
    from midspan.server.bench.soak import soak_command

    return soak_command(arguments)


def _replay(arguments: argparse.Namespace) -> int:
    from midspan.server.bench.replay import replay_command

    return replay_command(arguments)


def _kernels(arguments: argparse.Namespace) -> int:
    from midspan.server.bench.kernels import kernels_command

    return kernels_command(arguments)
