"""The training text: Python source of permissively licensed packages on this machine, and the standard library.

`python -m midspan.engine.training.corpus --out runs/corpus [--bench FILE.jsonl ...]` collects, filters, removes
duplicates, trains the tokenizer, and writes `train.bin` and `heldout.bin` (uint16 ids, every document between <bos> and
<eos>), `train.idx` and `heldout.idx` (int64: where each document starts, then the total), `heldout.jsonl`,
`tokenizer.json` and `manifest.json`.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import random
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from importlib.metadata import Distribution, PackageMetadata, distributions
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from midspan.engine.api import CheckpointError
from midspan.engine.prompts.tokenizer_json import open_tokenizer
from midspan.engine.training import tokenizer as bpe

HELD_OUT = ("pygls", "attrs", "Jinja2", "click", "Flask", "import-linter")
PERMISSIVE = re.compile(
    r"\b(mit|bsd|apache|isc|psf|python software foundation|hpnd|0bsd|unlicense|mit-cmu|zlib)\b", re.IGNORECASE
)
RESTRICTED = re.compile(r"gpl|mpl|mozilla|proprietary|eupl|cddl|commercial|nvidia", re.IGNORECASE)
GENERATED = re.compile(r"do not edit|auto-?generated|generated (by|from)|automatically generated", re.IGNORECASE)
TEST = re.compile(r"(^|/)(tests?|testing|test_[^/]*|[^/]*_tests?|conftest)(/|\.py$)")
# A vendored copy has a licence of its own (setuptools carries LGPL code) and may be of a held-out package.
VENDORED = re.compile(r"(^|/)(_?vendor|_?vendored|_vendored_packages|third_party|thirdparty)/")
PACKAGE_BYTES = 10_000_000
TEST_SHARE = 0.1
BOS, EOS = 2, 1


@dataclass(slots=True)
class Package:
    """One distribution and the files of it that are kept."""

    name: str
    version: str
    licence: str
    split: str
    texts: dict[str, str] = field(default_factory=dict)
    tokens: int = 0


def packages() -> Iterator[tuple[Package, list[tuple[str, Path]]]]:
    """Every permissively licensed distribution of this interpreter and its base, with its Python files.

    Held-out ones come first, the standard library last.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(sys.base_prefix) / "lib" / f"python{version}"
    sites = dict.fromkeys([sysconfig.get_path("purelib"), str(base / "site-packages")])
    seen: set[str] = set()
    held_out = {name.lower() for name in HELD_OUT}
    # Held out first: of near-duplicates the first is kept, and the training split is to lose the other.
    for distribution in sorted(distributions(path=list(sites)), key=lambda d: rank(d, held_out)):
        licence = licence_of(distribution)
        if licence is None or distribution.name.lower() in seen or distribution.name == "midspan":
            continue
        seen.add(distribution.name.lower())
        split = "heldout" if distribution.name.lower() in held_out else "train"
        files = [(str(f), Path(str(f.locate()))) for f in distribution.files or () if str(f).endswith(".py")]
        files = [(name, path) for name, path in files if not VENDORED.search(name)]
        yield Package(distribution.name, distribution.version, licence, split), files
    files = [(str(p.relative_to(base)), p) for p in sorted(base.rglob("*.py")) if "site-packages" not in p.parts]
    yield Package("python", sys.version.split()[0], "PSF-2.0", "train"), files


def rank(distribution: Distribution, held_out: set[str]) -> tuple[bool, str]:
    """Sort key: held out before the rest, then by name."""
    return distribution.name.lower() not in held_out, distribution.name.lower()


def licence_of(distribution: Distribution) -> str | None:
    """The licence that the metadata state; None where it is unknown or not permissive."""
    return licence_in(distribution.metadata)


def licence_in(meta: PackageMetadata | Message) -> str | None:
    """The licence that core-metadata headers state; None where it is unknown or not permissive."""
    classifiers = [
        c.removeprefix("License :: ") for c in meta.get_all("Classifier") or () if c.startswith("License ::")
    ]
    short = "".join(meta.get_all("License") or ()).strip().splitlines()[:1]
    stated = " | ".join([*(meta.get_all("License-Expression") or [""]), *short, *classifiers]).strip(" |")
    if RESTRICTED.search(stated) or not PERMISSIVE.search(stated):
        return None
    return stated[:120]


def readable(path: Path) -> str | None:
    """The file's text with LF line ends; None where it is generated, does not parse, or is too short or too long."""
    if not path.is_file() or not 200 <= path.stat().st_size <= 200_000:
        return None
    try:
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n").replace("\r", "\n")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
        return None
    lines = text.split("\n")
    if max(map(len, lines)) > 500 or GENERATED.search("\n".join(lines[:5])):
        return None
    return text


class Duplicates:
    """Finds exact duplicates, and near-duplicates by the share of a file's longer lines that stand in kept files."""

    def __init__(self) -> None:
        self._files: set[bytes] = set()
        self._lines: set[int] = set()

    def is_new(self, text: str) -> bool:
        """Whether at most 60 % of the longer lines stand in kept files; such a text is remembered as kept."""
        digest = hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).digest()
        lines = [hash(line.strip()) for line in text.split("\n") if len(line.strip()) >= 20]
        known = sum(line in self._lines for line in lines)
        if digest in self._files or (lines and known > 0.6 * len(lines)):
            return False
        self._files.add(digest)
        self._lines.update(lines)
        return True


def benchmark_functions(files: list[Path]) -> dict[str, set[str]]:
    """Function names of the benchmarks -> the first sentences of their docstrings."""
    found: dict[str, set[str]] = {}
    for file in files:
        for task in map(json.loads, file.read_text().splitlines()):
            doc = re.search(r"(?:\"{3}|'{3})\s*(.+)", task["prompt"])
            if doc:
                found.setdefault(task["entry_point"], set()).add(doc[1].split(". ")[0].strip())
    return found


def is_benchmark(text: str, functions: dict[str, set[str]]) -> bool:
    """Whether the text defines a benchmark's function with that function's docstring."""
    names = re.findall(r"^\s*def (\w+)\(", text, re.MULTILINE)
    return any(sentence in text for name in names for sentence in functions.get(name, ()))


def collect(seed: int, bench: list[Path]) -> tuple[list[Package], int]:
    """All packages with their kept texts, and how many files were dropped as a benchmark's text."""
    chance, duplicates, functions = random.Random(seed), Duplicates(), benchmark_functions(bench)
    kept, dropped = [], 0
    for package, files in packages():
        chance.shuffle(files)
        size = 0
        for name, path in files:
            if size > PACKAGE_BYTES:
                break
            if TEST.search(name) and chance.random() > TEST_SHARE:
                continue
            text = readable(path)
            if text is None or not duplicates.is_new(text):
                continue
            if is_benchmark(text, functions):
                dropped += 1
                continue
            package.texts[name] = text
            size += len(text.encode())
        if package.texts:
            print(f"{package.name} {package.version}: {len(package.texts)} files, {size / 1e6:.1f} MB", file=sys.stderr)
            kept.append(package)
    return kept, dropped


def write(kept: list[Package], out: Path, seed: int, dropped: int, tokenizer: Tokenizer | None = None) -> None:
    """Write every file of the corpus in the ids of `tokenizer`; a new one is trained for None."""
    chance = random.Random(seed)
    texts = [text for package in kept if package.split == "train" for text in package.texts.values()]
    # Also where no tokenizer is trained: the files then come in the same order.
    chance.shuffle(texts)
    if tokenizer is None:
        tokenizer = bpe.train(_sample(texts))
    tokenizer.save(str(out / "tokenizer.json"))
    for split in ("train", "heldout"):
        documents = [(p, name, text) for p in kept if p.split == split for name, text in p.texts.items()]
        chance.shuffle(documents)
        _write_split(documents, tokenizer, out / split)
        if split == "heldout":
            held = (json.dumps({"package": p.name, "path": name, "text": text}) for p, name, text in documents)
            (out / "heldout.jsonl").write_text("\n".join(held) + "\n")
    rows: list[dict[str, Any]] = [
        {"name": p.name, "version": p.version, "licence": p.licence, "split": p.split, "files": len(p.texts),
         "bytes": sum(len(t.encode()) for t in p.texts.values()), "tokens": p.tokens}
        for p in kept
    ]  # fmt: skip
    totals = {
        f"{split}_{key}": sum(row[key] for row in rows if row["split"] == split)
        for split in ("train", "heldout")
        for key in ("files", "bytes", "tokens")
    }
    manifest = {"seed": seed, "benchmark_files_dropped": dropped, **totals, "packages": rows}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(json.dumps({"seed": seed, "benchmark_files_dropped": dropped, **totals}), file=sys.stderr)


def _sample(texts: list[str]) -> list[str]:
    """The texts' first 25 MB."""
    sample: list[str] = []
    size = 0
    while size < 25_000_000 and len(sample) < len(texts):
        size += len(texts[len(sample)])
        sample.append(texts[len(sample)])
    print(f"training the tokenizer on {size / 1e6:.0f} MB", file=sys.stderr)
    return sample


def _write_split(documents: list[tuple[Package, str, str]], tokenizer: Tokenizer, stem: Path) -> None:
    starts = [0]
    with stem.with_suffix(".bin").open("wb") as out:
        for begin in range(0, len(documents), 500):
            batch = documents[begin : begin + 500]
            for (package, _, _), encoding in zip(batch, tokenizer.encode_batch([d[2] for d in batch]), strict=True):
                out.write(np.array([BOS, *encoding.ids, EOS], dtype=np.uint16).tobytes())
                package.tokens += len(encoding.ids)
                starts.append(starts[-1] + len(encoding.ids) + 2)
            done = f"{begin + len(batch)} of {len(documents)}"
            print(f"{stem.name}: {done} files, {starts[-1] / 1e6:.1f}M tokens", file=sys.stderr)
    stem.with_suffix(".idx").write_bytes(np.array(starts, dtype=np.int64).tobytes())


def main() -> None:
    """Read the command line and build the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bench", type=Path, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokenizer", type=Path, help="the tokenizer.json of a model that is trained on")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        tokenizer = None if arguments.tokenizer is None else open_tokenizer(arguments.tokenizer)
    except CheckpointError as error:
        sys.exit(f"corpus: {error}")
    kept, dropped = collect(arguments.seed, arguments.bench)
    write(kept, arguments.out, arguments.seed, dropped, tokenizer)


if __name__ == "__main__":
    main()
