"""Fetch a model of the catalogue from the hub into its cache: data files alone, none of them executed or unpacked.

The hub says which files a revision has, with the sha256 of each large one. Those are fetched here, so that what was
begun goes on after an interruption and what is whole is checked; the hub's own client does the rest.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from midspan.server.commands.errors import CommandError
from midspan.server.models.catalogue import Known
from midspan.server.models.hub import repository_folder
from midspan.server.models.listing import plain, size

# What may lie in a checkpoint: numbers and JSON. A repository may hold programs and pickles beside them.
ALLOWED = re.compile(r"[\w.-]+\.(?:gguf|safetensors|json)", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}")
# Free bytes that are left on the disk.
MARGIN = 1_000_000_000
CHUNK, PATIENCE_S = 1 << 22, 20.0
# The root of all errors of the client's own HTTP library, which is another one in older versions.
HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]

Free = Callable[[Path], int]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Part:
    """A file to fetch: its name in a revision, its bytes, and its sha256, which small files have none of."""

    name: str
    revision: str
    bytes: int
    sha256: str | None


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder that need not be there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def fetch(model: Known, cache: Path, say: Say, free: Free = free_bytes) -> Path:
    """Fetch a model's files, and return the GGUF file or the checkpoint folder; `say` gets a line for each large file.

    Raises CommandError.
    """
    try:
        parts = _parts(model)
        _check_room(model, parts, cache, free)
        paths = [_fetched(model, part, cache, say) for part in parts]
    except HfHubHTTPError as error:
        raise CommandError(f"{model.name}: {_refusal(model, error)}") from error
    except OfflineModeIsEnabled as error:
        raise CommandError(f"{model.name}: HF_HUB_OFFLINE is set, so nothing is fetched; unset it") from error
    except HTTP_ERROR as error:
        problem = f"the hub cannot be reached ({_line(error)})"
        fix = "try again, and what was fetched so far is kept; models at hand need no network"
        raise CommandError(f"{model.name}: {problem}; {fix}") from error
    except (ValueError, LookupError) as error:
        problem = f"what answers is not the hub ({_line(error)})"
        raise CommandError(f"{model.name}: {problem}; look at the network's sign-in page and at HF_ENDPOINT") from error
    except OSError as error:
        if error.errno is None:
            raise CommandError(f"{model.name}: {_line(error)}; run this again") from error
        fix = "free some space or set HF_HOME to a folder that can be written, and run this again"
        raise CommandError(f"{model.name}: {error.filename or cache}: {error.strerror}; {fix}") from error
    return paths[0] if model.file else paths[0].parent


def _parts(model: Known) -> list[Part]:
    """What is to be fetched, as the hub lists it now. Raises CommandError where that is not what the catalogue says."""
    info = HfApi().model_info(model.repository, files_metadata=True, timeout=PATIENCE_S)
    parts = [
        Part(one.rfilename, str(info.sha), one.size or 0, one.lfs.sha256 if one.lfs else None)
        for one in info.siblings or ()
        if (one.rfilename == model.file if model.file else True) and ALLOWED.fullmatch(one.rfilename)
    ]
    if not parts:
        raise CommandError(f"{model.name}: {model.repository} has no file {model.file or '*.safetensors'} any more")
    for part in parts:
        if not part.name.endswith(".json") and (part.sha256 is None or not SHA256.fullmatch(part.sha256)):
            raise CommandError(f"{model.name}: the hub states no sha256 of {part.name}, so nothing is fetched")
        if model.sha256 is not None and part.sha256 != model.sha256:
            raise CommandError(
                f"{model.name}: the hub's {part.name} is not the file that this midspan knows; upgrade midspan"
            )
    return parts


def _check_room(model: Known, parts: list[Part], cache: Path, free: Free) -> None:
    """Raises CommandError where the disk has no room for what is still to be fetched."""
    begun = sum(_begun(model, part, cache) for part in parts)
    needed, there = sum(part.bytes for part in parts) - begun + MARGIN, free(cache)
    if needed > there:
        fix = "free some or set HF_HOME to a folder on another disk"
        raise CommandError(f"{model.name}: {cache} needs {size(needed)} of free space and has {size(there)}; {fix}")


def _begun(model: Known, part: Part, cache: Path) -> int:
    """Bytes of a file that are there already."""
    found = (path for path in _paths(model, part, cache) if path.exists())
    return max((path.stat().st_size for path in found), default=0)


def _paths(model: Known, part: Part, cache: Path) -> list[Path]:
    """Where a large file lies in the cache when it is whole, and while it is fetched; nowhere for small ones."""
    if part.sha256 is None:
        return []
    whole = repository_folder(cache, model.repository) / "blobs" / part.sha256
    return [whole, whole.with_name(f"{whole.name}.incomplete")]


def _fetched(model: Known, part: Part, cache: Path, say: Say) -> Path:
    """Have a file in the cache, and return the link to it there."""
    if part.sha256 is not None:
        whole, begun = _paths(model, part, cache)
        whole.parent.mkdir(parents=True, exist_ok=True)
        lock = cache / ".locks" / repository_folder(cache, model.repository).name / f"{part.sha256}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not whole.exists():
                _download(model, part, begun, say)
                os.replace(begun, whole)
    # It finds the large file in its place, and links to it, unless the hub has another one by now.
    path = Path(hf_hub_download(model.repository, part.name, cache_dir=cache))
    if part.sha256 is not None and not path.samefile(whole):
        path.unlink()
        raise CommandError(f"{model.name}: the hub's {part.name} was replaced meanwhile; run this again")
    return path


def _download(model: Known, part: Part, file: Path, say: Say) -> None:
    """Fetch what is missing of a file, and compare its sha256. Raises CommandError for another one."""
    with file.open("ab") as opened:
        done = opened.tell()
        if done > part.bytes:
            opened.truncate(done := 0)
        said = f", of which {size(done)} are here already" if done else ""
        say(f"fetching {plain(part.name, 100)}: {size(part.bytes)}{said}")
        url = hf_hub_url(model.repository, part.name, revision=part.revision)
        http_get(url, opened, resume_size=done, headers=build_hf_headers(), expected_size=part.bytes)
    if (found := _sha256(file)) != part.sha256:
        file.unlink()
        wrong = f"what came as {part.name} has sha256 {found[:16]}... in place of {str(part.sha256)[:16]}..."
        raise CommandError(f"{model.name}: {wrong}; it was removed, run this again")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _refusal(model: Known, error: HfHubHTTPError) -> str:
    """Why the hub does not give it, and what to do."""
    page = f"https://huggingface.co/{model.repository}"
    if isinstance(error, GatedRepoError):
        return f"its licence must be accepted first: on {page}, then run hf auth login"
    answer = f"{error.response.status_code} {error.response.reason_phrase}"
    return f"the hub answers {answer}; look at {page}, and try again later"


def _line(error: Exception) -> str:
    return plain(" ".join(str(error).split()), 160)
