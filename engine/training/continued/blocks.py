"""Context blocks in front of a row: the file's own path, and pieces of other files of its package."""

from __future__ import annotations

import random
import re

from midspan.engine.prompts.prompt import Prompt
from midspan.engine.training.continued.recipes import RowRecipe
from midspan.engine.training.continued.spans import Gap
from midspan.engine.training.continued.texts import Text

NEAR_CHARS = 400
PIECE_LINES = (4, 20)
# So many other files are looked at, and so many places in each.
FILES, PLACES = 3, 6
WORD = re.compile(r"[A-Za-z_]\w{3,}")


class Blocks:
    """Draws what stands in front of a row; each block is FILE path, a line end, text."""

    def __init__(self, prompt: Prompt, recipe: RowRecipe, file_id: int) -> None:
        self._prompt, self._recipe, self._file = prompt, recipe, file_id

    def draw(self, others: list[Text], text: Text, gap: Gap, chance: random.Random) -> list[int]:
        """Ids of some blocks, or none: each kind is dropped at random, so that a model can do without."""
        ids: list[int] = []
        if chance.random() < self._recipe.block_share:
            ids = self._pieces(others, text, gap, chance)
        if ids or chance.random() < self._recipe.path_share:
            ids += [self._file, *self._prompt.encode(text.path + "\n")]
        return ids if len(ids) <= self._recipe.tokens // 2 else []

    def _pieces(self, others: list[Text], text: Text, gap: Gap, chance: random.Random) -> list[int]:
        """The pieces of other files that share most words with the gap's surroundings, not with the gap."""
        near = text.text[max(0, gap.begin - NEAR_CHARS) : gap.begin] + text.text[gap.end : gap.end + NEAR_CHARS // 2]
        words, ids = set(WORD.findall(near)), list[int]()
        for other in chance.sample(others, min(FILES, len(others))):
            piece = max(
                (_piece(other.text, chance) for _ in range(PLACES)), key=lambda one: len(words & set(WORD.findall(one)))
            )
            more = [self._file, *self._prompt.encode(f"{other.path}\n{piece}\n")]
            if len(ids) + len(more) <= self._recipe.tokens // 3:
                ids += more
        return ids


def _piece(text: str, chance: random.Random) -> str:
    """Some whole lines of a text."""
    lines = text.split("\n")
    begin = chance.randrange(len(lines))
    return "\n".join(lines[begin : begin + chance.randint(*PIECE_LINES)])
