"""Source packages by name, read where they were downloaded: PyPI wheels, npm tarballs, Debian packages of plain source.

The ordinary clients fetch them (`pip download`, `npm pack`, `apt-get download`). Nothing of a package is run or
unpacked to disk: files are read out of the archive in memory.
"""

from __future__ import annotations

import email
import gzip
import io
import json
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from midspan.engine.training.corpus import PERMISSIVE, RESTRICTED, licence_in

DOWNLOAD_S = 300
LARGEST_FILE = 200_000
# Debian calls the MIT licence Expat.
PERMISSIVE_IN_DEBIAN = re.compile(PERMISSIVE.pattern + r"|\b(expat|bsl-1|boost|public-domain|cc0)\b", re.IGNORECASE)
COPYRIGHT = re.compile(r"usr/share/doc/[^/]+/copyright$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A downloaded package: its files' texts by path, and what its own metadata says."""

    name: str
    version: str
    licence: str | None
    files: dict[str, bytes]


def fetch(client: str, name: str, folder: Path) -> Archive | None:
    """Download a package where `folder` does not hold it, and read it; None where the client finds none.

    Raises ValueError for a client that is not pip, npm or apt.
    """
    if client not in READERS:
        raise ValueError(f"sources.json: client `{client}` is not one of {', '.join(READERS)}")
    place = folder / client / name.replace("/", "+")
    if not any(place.glob("*")):
        place.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(COMMANDS[client] + [name], cwd=place, capture_output=True, timeout=DOWNLOAD_S)
        except subprocess.TimeoutExpired:
            return None
        if done.returncode != 0:
            return None
    found = sorted(path for path in place.iterdir() if path.is_file())
    return READERS[client](name, found[0]) if found else None


def read_wheel(name: str, path: Path) -> Archive:
    """A wheel's files, and the licence that its METADATA states."""
    with zipfile.ZipFile(path) as wheel:
        small = [info for info in wheel.infolist() if not info.is_dir() and info.file_size <= LARGEST_FILE]
        files = {info.filename: wheel.read(info) for info in small if info.filename.endswith((".py", "/METADATA"))}
    metadata = next((text for file, text in files.items() if file.endswith(".dist-info/METADATA")), b"")
    stated: Message = email.message_from_string(metadata.decode("utf-8", "replace"))
    return Archive(name=name, version=str(stated.get("Version", "")), licence=licence_in(stated), files=files)


def read_npm(name: str, path: Path) -> Archive:
    """A tarball's files without their first folder, and the licence of its package.json."""
    files = {file.partition("/")[2]: text for file, text in _tar_files(path.read_bytes())}
    stated = json.loads(files.get("package.json", b"{}"))
    licence = stated.get("license", "")
    licence = licence.get("type", "") if isinstance(licence, dict) else str(licence)
    permissive = PERMISSIVE.search(licence) and not RESTRICTED.search(licence)
    return Archive(
        name=name, version=str(stated.get("version", "")), licence=licence if permissive else None, files=files
    )


def read_debian(name: str, path: Path) -> Archive:
    """A Debian package's files, and the licences of its machine-readable copyright file."""
    packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], capture_output=True, check=True, timeout=DOWNLOAD_S)
    files = {file.removeprefix("./"): text for file, text in _tar_files(packed.stdout)}
    copyright_file = next((text for file, text in files.items() if COPYRIGHT.search(file)), b"")
    version = path.name.split("_")[1] if path.name.count("_") >= 2 else ""
    licence = debian_licence(copyright_file.decode("utf-8", "replace"))
    return Archive(name=name, version=version, licence=licence, files=files)


def debian_licence(copyright_file: str) -> str | None:
    """The licences of all that is not Debian's own packaging, or None where one of them is not permissive or unknown.

    Read from DEP-5 paragraphs; a file in another form has no known licence.
    """
    named: list[str] = []
    for paragraph in re.split(r"\n\s*\n", copyright_file):
        covered = re.search(r"^Files:\s*((?:.|\n[ \t])*)", paragraph, re.MULTILINE)
        stated = re.search(r"^License:\s*(.*)$", paragraph, re.MULTILINE)
        if covered is None or stated is None or all(p.startswith("debian/") for p in covered[1].split()):
            continue
        named.append(stated[1].strip())
    if not named or not all(PERMISSIVE_IN_DEBIAN.search(one) and not RESTRICTED.search(one) for one in named):
        return None
    return " | ".join(dict.fromkeys(named))[:120]


def _tar_files(packed: bytes) -> Iterator[tuple[str, bytes]]:
    """Regular files of a tar, gzipped or plain, that are small enough to be source."""
    plain = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() and member.size <= LARGEST_FILE else None
            if content is not None:
                yield member.name, content.read()


COMMANDS = {
    "pip": ["pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", "."],
    "npm": ["npm", "pack", "--silent", "--ignore-scripts"],
    "apt": ["apt-get", "download", "--quiet"],
}
READERS = {"pip": read_wheel, "npm": read_npm, "apt": read_debian}
