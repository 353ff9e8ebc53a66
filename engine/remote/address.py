"""Where a remote server is, what it speaks, and what its address may be; standard library only."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import SplitResult, urlsplit

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

    `key_variable` names the environment variable with its key. `template` names one of prompts/fim_templates.json, for
    a model whose name does not tell it. `insecure` allows http to a host that is not this machine.
    Raises ValueError with one line that begins with the field's name and tells the fix.
    """

    name: str
    kind: Kind
    address: str
    model: str = ""
    key_variable: str = ""
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
        """The key, read from the environment now; empty without one."""
        return os.environ.get(self.key_variable, "").strip() if self.key_variable else ""

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
