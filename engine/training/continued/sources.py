"""The multilingual training text: permissively licensed packages by name, from the ordinary package clients.

`python -m midspan.engine.training.continued.sources --out runs/sources [--bench FILE.jsonl ...]` downloads what
`sources.json` names (pip, npm and apt-get must be on PATH), filters, removes duplicates, and writes `train.jsonl`,
`heldout.jsonl` (one file a line: language, package, path, text) and `manifest.json`. Downloads are kept under
`--downloads`. Whole packages are held out in every language.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from midspan.engine.training.continued.packages import Archive, fetch
from midspan.engine.training.continued.source_text import TEST, is_humaneval, readable, wanted_paths
from midspan.engine.training.corpus import TEST_SHARE, Duplicates, benchmark_functions, is_benchmark

SOURCES = Path(__file__).with_name("sources.json")
PACKAGE_BYTES = 2_500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One kept file."""

    language: str
    package: str
    path: str
    text: str


@dataclass(slots=True)
class PackageRow:
    """What the manifest says of a package; `licence` None: unknown or not permissive, nothing is kept."""

    name: str
    language: str
    split: str
    version: str = ""
    licence: str | None = None
    files: int = 0
    bytes: int = 0
    benchmark_files_dropped: int = 0


class Collector:
    """Keeps what is new and wanted of package after package; held-out packages come first, so that copies of them
    are dropped from the training split."""

    def __init__(self, functions: dict[str, set[str]], seed: int) -> None:
        self._functions, self._random, self._duplicates = functions, random.Random(seed), Duplicates()

    def keep(self, archive: Archive, row: PackageRow) -> Iterator[SourceFile]:
        """The kept files of one package, counted in its row."""
        paths = sorted(wanted_paths(list(archive.files), row.language))
        self._random.shuffle(paths)
        for path in paths:
            if row.bytes > PACKAGE_BYTES:
                return
            if TEST.search(path) and self._random.random() > TEST_SHARE:
                continue
            text = readable(archive.files[path], row.language)
            if text is None or not self._duplicates.is_new(text):
                continue
            if is_benchmark(text, self._functions) or is_humaneval(text):
                row.benchmark_files_dropped += 1
                continue
            row.files, row.bytes = row.files + 1, row.bytes + len(text.encode())
            yield SourceFile(language=row.language, package=row.name, path=path, text=text)


def rows(named: dict[str, Any]) -> Iterator[tuple[str, PackageRow]]:
    """Client and empty row of every package: held out first."""
    for split in ("heldout", "train"):
        for language, source in named.items():
            for name in source[split]:
                yield source["client"], PackageRow(name=name, language=language, split=split)


def write(out: Path, downloads: Path, bench: list[Path], seed: int) -> list[PackageRow]:
    """Fetch, filter and write both splits; returns the manifest's rows."""
    collector = Collector(benchmark_functions(bench), seed)
    found: list[PackageRow] = []
    splits = {split: (out / f"{split}.jsonl").open("w", encoding="utf-8") for split in ("train", "heldout")}
    for client, row in rows(json.loads(SOURCES.read_text())):
        archive = fetch(client, row.name, downloads)
        if archive is None:
            print(f"{row.name}: {client} has no such package, left out", file=sys.stderr)
            continue
        row.version, row.licence = archive.version, archive.licence
        found.append(row)
        if archive.licence is None:
            print(f"{row.name}: licence unknown or not permissive, left out", file=sys.stderr)
            continue
        for file in collector.keep(archive, row):
            splits[row.split].write(json.dumps(asdict(file)) + "\n")
    for stream in splits.values():
        stream.close()
    return found


def totals(found: list[PackageRow]) -> dict[str, dict[str, dict[str, int]]]:
    """Packages, files and bytes kept, by split and language."""
    summed: dict[str, dict[str, dict[str, int]]] = {}
    for row in found:
        counts = summed.setdefault(row.split, {}).setdefault(row.language, {"packages": 0, "files": 0, "bytes": 0})
        counts["packages"] += row.files > 0
        counts["files"] += row.files
        counts["bytes"] += row.bytes
    return summed


def main() -> None:
    """Read the command line and build the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--downloads", type=Path, help="where archives are kept (default: OUT/downloads)")
    parser.add_argument("--bench", type=Path, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    downloads = arguments.downloads or arguments.out / "downloads"
    found = write(arguments.out, downloads, arguments.bench, arguments.seed)
    manifest = {"seed": arguments.seed, "totals": totals(found), "packages": [asdict(row) for row in found]}
    (arguments.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(json.dumps(manifest["totals"], indent=1))


if __name__ == "__main__":
    main()
