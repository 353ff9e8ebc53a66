"""Where a remote server is, what it speaks, and what its address may be; standard library only."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import SplitResult, urlsplit

from midspan.engine.remote.keys import USER, known_key, stored_key

Kind = Literal[
    "llama-server", "completions", "ollama", "vllm-diffusion", "chat-diffusion", "mistral", "deepseek", "inception"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
Tier = Literal["loopback", "private", "public"]
# These serve many models, or are asked by a template that the model's name tells.
NEEDS_MODEL: tuple[Kind, ...] = (
    *("completions", "ollama", "vllm-diffusion", "chat-diffusion"),
    *("mistral", "deepseek", "inception"),
)
VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A server: a name to call it by, what it speaks, and its address, such as http://127.0.0.1:9931.

    `key_variable` names the environment variable with its key, or `keyring` the service that has it in the operating
    system's keyring, for the user `midspan`. `template` names one of prompts/fim_templates.json, for
    a model whose name does not tell it. `insecure` allows http to a host that is not this machine.
    Raises ValueError with one line that begins with the field's name and tells the fix.
    """

    name: str
    kind: Kind
    address: str
    model: str = ""
    key_variable: str = ""
    keyring: str = ""
    template: str = ""
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind}; give one of {', '.join(KINDS)}")
        parts = self._parts()
        if parts.scheme == "http" and self.tier != "loopback" and not self.insecure:
            shown = f"{parts.scheme}://{parts.netloc}"
            raise ValueError(f"address {shown}: what is sent can be read on the way; use https, or set insecure")
        if self.kind in NEEDS_MODEL and not self.model:
            raise ValueError(f"model is not given, and a server of kind {self.kind} has to be told; name one")
        if self.key_variable and self.keyring:
            raise ValueError("key_variable and key both say where the key is; leave one of them out")
        if self.key_variable and VARIABLE.fullmatch(self.key_variable) is None:
            # The text itself may be a key, so it is not shown.
            raise ValueError("key_variable is not the name of an environment variable; give the name, never the key")

    @property
    def tier(self) -> Tier:
        """How far what is sent goes: no further than this machine, a private network, or beyond."""
        host = self._parts().hostname or ""
        if host == "localhost":
            return "loopback"
        try:
            found = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return "public"
        return "loopback" if found.is_loopback else "private" if found.is_private else "public"

    @property
    def key(self) -> str:
        """The key, read from the environment now, or once from the keyring; empty without one. Raises RemoteError."""
        if self.keyring:
            return stored_key(self.keyring)
        return os.environ.get(self.key_variable, "").strip() if self.key_variable else ""

    @property
    def known_key(self) -> str:
        """The key as far as it has been read, for texts that must not hold it."""
        return known_key(self.keyring) if self.keyring else self.key

    @property
    def key_place(self) -> str:
        """Where the key is, in words; empty where none is named."""
        if self.keyring:
            return f"the keyring's entry {self.keyring} of {USER}"
        return f"the environment variable {self.key_variable}" if self.key_variable else ""

    @property
    def key_fix(self) -> str:
        """What to do for it to hold a key, in words that go on with which."""
        if self.keyring:
            return f"run `keyring set {self.keyring} {USER}` and give it a key"
        return f"set {self.key_variable or 'key_variable'} to a key"

    def _parts(self) -> SplitResult:
        """The address, taken apart. Raises ValueError."""
        fix = "give http://HOST:PORT or https://HOST"
        try:
            parts = urlsplit(self.address)
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise ValueError(f"address is no address of a server; {fix}") from None
        if not fits or not self.address.isascii() or not self.address.isprintable() or " " in self.address:
            raise ValueError(f"address is no address of a server; {fix}")
        if parts.username is not None or parts.query or parts.fragment:
            # It is not shown, as it may hold a password or a key.
            raise ValueError(
                "address holds a user, a query or a fragment; leave them out and use key_variable for a key"
            )
        return parts
