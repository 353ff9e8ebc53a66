"""How a client counts the kinds of trigger of inline completion: from 1, as LSP 3.18 has it, or from 0, as its draft.

vscode-languageclient 9 passes on what the editor's API calls them: 0 is invoked, 1 automatic. Version 10 counts as the
specification does: 1 is invoked, 2 automatic. So 0 and 2 tell what they are and how the client counts, and 1 means
what the last of them has told. Before either has come, a client counts from 0 if it is an old vscode-languageclient.
"""

from __future__ import annotations

from typing import Any

from lsprotocol import types

FROM_ZERO, AUTOMATIC = 0, 2
# The name that vscode-languageclient gives is the product's, in whatever fork; its parser of Markdown is one it names.
EDITORS = ("visual studio code", "vscode", "code - oss", "vscodium")
PARSER = "marked"


class TriggerKinds:
    """How one client counts, as far as it is known."""

    def __init__(self) -> None:
        self._from_zero = False

    def meet(self, params: types.InitializeParams) -> None:
        """What a client says of itself: an old vscode-languageclient has its marks, and not what version 10 added."""
        name = "" if params.client_info is None else params.client_info.name.lower()
        general, workspace = params.capabilities.general, params.capabilities.workspace
        parser = None if general is None or general.markdown is None else general.markdown.parser
        edit = None if workspace is None else workspace.workspace_edit
        is_new = edit is not None and bool(edit.metadata_support)
        self._from_zero = (name.startswith(EDITORS) or parser == PARSER) and not is_new

    def is_invoked(self, kind: int) -> bool:
        """Whether a request of this kind is explicit."""
        if kind in (FROM_ZERO, AUTOMATIC):
            self._from_zero = kind == FROM_ZERO
        return kind == FROM_ZERO or (kind != AUTOMATIC and not self._from_zero)


def structure_kind(value: Any, _: object) -> int:
    """The kind as a client sends it, for a converter. Raises ValueError where no draft has it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in (0, 1, 2):
        raise ValueError("none of 0, 1 and 2")
    return int(value)
