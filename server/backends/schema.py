"""What one engine's table may hold."""

from __future__ import annotations

from typing import Annotated

import msgspec

from midspan.server.router.asks import AUTO
from midspan.server.router.policy import Reading

# `--engine` takes these for the local checkpoint's own readings, and for the router's choice.
TAKEN = (AUTO, "diffusion", "autoregressive")
KEYS = ("key", "api_key", "apikey", "token", "password", "secret", "authorization", "bearer")
# Upper case only: a key that is put there by mistake hardly looks so.
Variable = Annotated[str, msgspec.Meta(pattern=r"^([A-Z_][A-Z0-9_]{0,63})?$")]
# What says that a key is in the operating system's keyring, and for which service.
KEYRING = "keyring:"
InKeyring = Annotated[str, msgspec.Meta(pattern=r"^(keyring:[A-Za-z0-9][A-Za-z0-9._/-]{0,63})?$")]


class Backend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One server. All but the last three keys are those of engine/remote's Remote; `key` is "keyring:SERVICE".

    `reading` says how it writes, where that does not follow from its kind. It is asked for `most_tokens` at most. Text
    of files that `exclude` names never reaches it.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
    kind: str
    address: str
    model: str = ""
    key_variable: Variable = ""
    key: InKeyring = ""
    template: str = ""
    insecure: bool = False
    reading: Reading | None = None
    most_tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] | None = None
    exclude: tuple[str, ...] = ()
