"""The one place where the server meets engines on other servers; imported only where one is configured or sought."""

from __future__ import annotations

from functools import partial

from midspan.engine import remote
from midspan.engine.api import RemoteError
from midspan.engine.remote import Health, Remote
from midspan.server.backends.schema import KEYRING, Backend
from midspan.server.router.members import ANY_LENGTH, Member
from midspan.server.router.policy import Reading, Source

DENOISING = ("vllm-diffusion", "chat-diffusion", "inception")


def remote_of(backend: Backend) -> Remote:
    """What engine/remote takes. Raises ValueError with one line that names the key and the fix."""
    return Remote(
        name=backend.name,
        kind=backend.kind,  # type: ignore[arg-type]  # it checks that itself
        address=backend.address,
        model=backend.model,
        key_variable=backend.key_variable,
        keyring=backend.key.removeprefix(KEYRING),
        template=backend.template,
        insecure=backend.insecure,
    )


def reading_of(backend: Backend) -> Reading:
    """How it writes."""
    return backend.reading or ("diffusion" if backend.kind in DENOISING else "autoregressive")


def member_of(backend: Backend, by: Source) -> Member:
    """The router's view of it; nothing is connected yet."""
    found = remote_of(backend)
    return Member(
        name=backend.name,
        reading=reading_of(backend),
        tier=found.tier,
        connect=partial(remote.connect, found),
        probe=partial(_problem, found),
        by=by,
        most_tokens=backend.most_tokens or ANY_LENGTH,
        exclude=backend.exclude,
    )


def healths_of(found: Remote, times: int) -> list[Health]:
    """How a server is, asked so many times now, for at most a few seconds each; no more once it is not ready."""
    healths = list[Health]()
    while len(healths) < times and (not healths or healths[-1].state == "ready"):
        healths.append(remote.probe(found))
    return healths


def counts_of(backend: Backend) -> dict[str, float]:
    """What a server has counted since its start, as far as it tells: see engine/remote/probing.py for the keys."""
    return remote.counted(remote_of(backend))


def _problem(found: Remote) -> str | None:
    health = remote.probe(found)
    if health.state != "ready":
        raise RemoteError(health.problem or f"{found.name} is {health.state}", status=health.status)
    return None if health.infill else f"{found.name} serves a model that fills no gaps; serve one that does"
