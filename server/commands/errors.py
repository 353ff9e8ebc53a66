"""What a command says when it cannot go on."""

from __future__ import annotations


class CommandError(Exception):
    """A command that cannot go on; the message is one line that names the fix."""
