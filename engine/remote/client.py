"""The HTTP client of one server: what is sent is said in full here, and what comes back has bounds.

The only module that imports httpx2, which takes a tenth of a second, as does a context for TLS: an engine makes its
client on its own thread. Nothing is sent twice: the next keystroke is the retry.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx2

from midspan.engine.api import RemoteError
from midspan.engine.remote.address import Remote
from midspan.engine.remote.reply import one_line, repeats, text_of

# Of a whole answer, and of the text of a refusal.
MOST_BYTES, MOST_REFUSAL_BYTES = 4 << 20, 1 << 16
# A port at which nobody listens says so at once; a busy machine may take long over one at which somebody does.
CONNECT_S = 2.0
# Shorter than the five seconds after which uvicorn, and so vLLM, closes a connection that nobody uses.
KEEP_S = 4.0
MOST_RETRY_S = 3600.0
# For the end of an answer's last chunk, which comes with it.
REST_S = 0.05
FIXES = {
    401: "{fix} that it takes",
    403: "{fix} that it takes",
    404: "check its address, its kind and the model's name",
    405: "check its address and its kind",
    429: "it has too many requests; wait, or give it fewer users",
    501: "its model has no tokens of fill-in-the-middle; serve one that has, such as Qwen2.5-Coder",
    503: "it is loading its model or has no room; wait",
}
# httpx2 logs each request's address at INFO, which is one line a keystroke.
logging.getLogger("httpx2").setLevel(logging.WARNING)


class Client:
    """One server; to be made, used and closed on one thread, whose loop runs it.

    Cancelling a call closes its connection. Every error is a RemoteError whose line has neither the key nor user code.
    """

    def __init__(self, remote: Remote) -> None:
        """Raises RemoteError where the environment's proxy or certificates are of no use."""
        self.remote = remote
        loopback, address = remote.tier == "loopback", remote.address
        plain = loopback and address.startswith("http:")
        # Many programs show their address with the beginning of their routes, which is added here.
        self._address = address.rstrip("/").removesuffix("/beta" if remote.kind == "deepseek" else "/v1")
        try:
            self._client = httpx2.AsyncClient(
                # What is sent compressed could be of any size when it is unpacked.
                headers={"Accept-Encoding": "identity", "User-Agent": "midspan"},
                # The call's own deadline bounds it; a server may be silent for as long as it reads a prompt.
                timeout=httpx2.Timeout(None, connect=CONNECT_S),
                limits=httpx2.Limits(keepalive_expiry=KEEP_S),
                # A proxy that the environment names is never asked for this machine itself.
                trust_env=not loopback,
                verify=httpx2.create_ssl_context(verify=not plain),
                follow_redirects=False,
            )
        except (OSError, ValueError, ImportError, httpx2.InvalidURL):
            # Their words may spell a proxy's password.
            fix = "correct HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
            raise self.error(f"the environment names a proxy or certificates that cannot be used; {fix}") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get(self, path: str) -> Any:
        """The JSON that a GET of this path answers with. Raises RemoteError."""
        return self.parsed(await self._whole("GET", path, None))

    async def text(self, path: str) -> str:
        """The text that a GET of this path answers with. Raises RemoteError."""
        return (await self._whole("GET", path, None)).decode("utf-8", "replace")

    async def post(self, path: str, asked: Mapping[str, Any]) -> Any:
        """The JSON that a POST of a JSON object answers with. Raises RemoteError."""
        return self.parsed(await self._whole("POST", path, asked))

    @asynccontextmanager
    async def lines(self, path: str, asked: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of a POST's answer, as they arrive; leaving the context closes the connection."""
        # What breaks off in the middle is closed here, rather than by the garbage collector at any time and thread.
        async with (
            self._answer("POST", path, asked) as response,
            aclosing(response.aiter_raw()) as raw,
            aclosing(self._chunks(raw, MOST_BYTES)) as chunks,
            aclosing(self._lines(chunks)) as found,
        ):
            yield found

    async def rest(self, lines: AsyncIterator[str]) -> None:
        """Read what a server sends that is done with an answer, so that its connection serves the next request too."""
        try:
            async with asyncio.timeout(REST_S):
                async for _ in lines:
                    pass
        except (TimeoutError, httpx2.HTTPError):
            # The answer is whole without it.
            return

    async def _whole(self, method: str, path: str, asked: Mapping[str, Any] | None) -> bytes:
        async with self._answer(method, path, asked) as response:
            return await self._body(response, MOST_BYTES)

    async def _body(self, response: httpx2.Response, most: int) -> bytes:
        async with aclosing(response.aiter_raw()) as raw, aclosing(self._chunks(raw, most)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    def parsed(self, body: bytes | str) -> Any:
        """A text of JSON from the server. Raises RemoteError."""
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise self.error("answers with something that is no JSON; check its address and its kind") from None

    def error(self, problem: str, *, status: int = 0, retry_after_s: float | None = None) -> RemoteError:
        """An error that names the server; `problem` is one line with the fix."""
        shown = self._without_key(f"{self.remote.name} at {self._address}: {problem}")
        return RemoteError(shown, status=status, retry_after_s=retry_after_s)

    def _without_key(self, text: str) -> str:
        """A text with dots for the key, whole: what is cut short might keep a part of it."""
        return text.replace(key, "...") if (key := self.remote.known_key) else text

    def _headers(self) -> dict[str, str]:
        """The key, where one is named. Raises RemoteError."""
        if not (place := self.remote.key_place):
            return {}
        try:
            key = self.remote.key
        except RemoteError as error:
            raise self.error(str(error), status=error.status) from None
        if not key or not key.isascii() or not key.isprintable():
            wrong = "holds no key" if not key else "holds characters that no key has"
            raise self.error(f"{place} {wrong}; {self.remote.key_fix}, and start the editor anew", status=401)
        return {"Authorization": f"Bearer {key}"}

    @asynccontextmanager
    async def _answer(self, method: str, path: str, asked: Mapping[str, Any] | None) -> AsyncIterator[httpx2.Response]:
        headers = self._headers()
        try:
            async with self._client.stream(method, self._address + path, json=asked, headers=headers) as response:
                if response.status_code != 200:
                    raise await self._refusal(response, asked)
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise self.error("compresses its answer although it is asked not to; turn that off")
                yield response
        except httpx2.HTTPError as error:
            # Without its cause, which may spell what was sent.
            raise self.error(_failed(error)) from None

    async def _refusal(self, response: httpx2.Response, asked: Mapping[str, Any] | None) -> RemoteError:
        """What a status other than 200 means."""
        status, said = response.status_code, ""
        if response.is_redirect:
            return self.error("answers from elsewhere; give that address, as none is followed", status=status)
        body = await self._body(response, MOST_REFUSAL_BYTES)
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        for path in (("error", "message"), ("error",), ("message",), ("detail",), ("detail", "message")):
            said = said or text_of(found, *path)
        fix = FIXES.get(status, "check its kind and the model's name" if status < 500 else "see its log")
        fix = fix.format(fix=self.remote.key_fix)
        says = f"says {one_line(self._without_key(said))!r}; " if said and not repeats(said, asked) else ""
        later = _retry_after(response.headers.get("retry-after", ""))
        return self.error(f"status {status}: {says}{fix}", status=status, retry_after_s=later)

    async def _chunks(self, raw: AsyncIterator[bytes], most: int) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises RemoteError behind so many bytes."""
        size = 0
        async for chunk in raw:
            size += len(chunk)
            if size > most:
                raise self.error(f"sends more than {most} bytes, which no fill has; check its address and its kind")
            yield chunk

    async def _lines(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
        """The lines without their ends; the last one only if it has an end."""
        held, begin = bytearray(), 0
        async for chunk in chunks:
            held += chunk
            while (end := held.find(b"\n", begin)) >= 0:
                yield held[:end].rstrip(b"\r").decode("utf-8", "replace")
                del held[: end + 1]
                begin = 0
            # What is held has been looked through.
            begin = len(held)


def _failed(error: httpx2.HTTPError) -> str:
    """Why a call came to no answer, and the fix."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "its certificate is not trusted here; add its authority, or name that in SSL_CERT_FILE"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx2.ConnectTimeout | httpx2.ConnectError):
        return "nothing answers there; start the server or correct its address"
    if isinstance(error, httpx2.ProxyError):
        return "the proxy that the environment names refuses it; correct HTTPS_PROXY or NO_PROXY"
    return "the connection broke off in the middle; see the server's log"


def _retry_after(header: str) -> float | None:
    """Seconds of a Retry-After, whichever of its two forms it has, within an hour; None for none."""
    if header.strip().isdecimal():
        return min(MOST_RETRY_S, float(header[:9]))
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    return min(MOST_RETRY_S, max(0.0, until.timestamp() - time.time()))
