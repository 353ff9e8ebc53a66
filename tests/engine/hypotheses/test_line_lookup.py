"""Lines of other files: pictures of what is found for a gap, and that a file changed is as one put there afresh."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Hole, Line
from midspan.engine.hypotheses.line_lookup import ALIKE, MAX_CHARS, MAX_LINES, LineIndex, bare_lines

OTHER = """
class Shop:
    def sell(self, item):
        total = price_of(item)
        self.till.add(total)
        return total

    def close(self):
        self.till.close()
"""
PICTURES = {
    "a line's beginning": ("        self.till.‸", ["self.till.add(total)", "self.till.close()"]),
    "the line is all there": ("return total‸", []),
    "behind a line like the one above": ("total = price_of(thing)\n\n    ‸", ["self.till.add(total)"]),
    "behind it and begun": ("total = price_of(thing)\nself.t‸", ["self.till.add(total)", "self.till.close()"]),
    "only what begins so behind it": ("total = price_of(thing)\nother‸", []),
    "a line above that says nothing": ("else:\n‸", []),
    "nothing to go by": ("‸", []),
    "of another beginning": ("cell‸", []),
}


def found(one: LineIndex, picture: str, key: str = "here.py") -> list[str]:
    prefix, _, suffix = picture.partition("‸")
    return sorted({line.text for line in one.near(Hole(prefix=prefix, suffix=suffix), key)})


@pytest.mark.parametrize("name", PICTURES)
def test_lines_that_a_gap_may_become(name: str) -> None:
    picture, expected = PICTURES[name]
    one = LineIndex()
    one.put("shop.py", bare_lines(OTHER))
    assert found(one, picture) == expected


def test_each_has_the_lines_around_it() -> None:
    one = LineIndex()
    one.put("shop.py", bare_lines(OTHER))
    hole = Hole(prefix="        self.till.a", suffix="")
    assert one.near(hole, "here.py") == (Line("self.till.add(total)", "total = price_of(item)", "return total"),)
    hole = Hole(prefix="total = price_of(x)\n", suffix="")
    assert one.near(hole, "here.py") == (Line("self.till.add(total)", "total = price_of(item)", ""),)


def test_a_files_own_lines_are_not_elsewhere_unless_another_has_them_too() -> None:
    one = LineIndex()
    one.put("here.py", bare_lines(OTHER))
    assert found(one, "return ‸") == found(one, "total = price_of(x)\n‸") == []
    one.put("copy.py", bare_lines(OTHER))
    assert found(one, "return ‸") == ["return total"]
    one.drop("copy.py")
    assert found(one, "return ‸") == []


def test_lines_of_little_use_are_left_out() -> None:
    one = LineIndex()
    one.put("a.py", (")", "x = " + "1" * MAX_CHARS, "x = 1"))
    assert found(one, "x‸") == ["x = 1"]
    assert found(one, ")‸") == []


def test_of_many_that_begin_alike_some_are_drawn_from_all_over() -> None:
    one = LineIndex()
    one.put("a.py", tuple(f"x = {number:04}" for number in range(10 * ALIKE)))
    numbers = [int(text[4:]) for text in found(one, "x = ‸")]
    assert len(numbers) == ALIKE
    assert min(numbers) < 10
    assert max(numbers) >= 9 * ALIKE


def test_a_file_for_which_there_is_no_room_is_left_out() -> None:
    one = LineIndex()
    one.put("a.py", tuple(f"a = {number}" for number in range(MAX_LINES - 1)))
    one.put("b.py", ("b = 1", "b = 2"))
    assert (len(one), found(one, "b‸")) == (MAX_LINES - 1, [])
    one.put("c.py", ("c = 1",))
    assert (len(one), found(one, "c‸")) == (MAX_LINES, ["c = 1"])
    one.put("a.py", ("a = 0",))
    one.put("b.py", ("b = 1", "b = 2"))
    assert found(one, "b‸") == ["b = 1", "b = 2"]


TEXTS = st.lists(st.sampled_from(["aaa", "aab", "abc", "b", "bbb = 1", "bbb = 2", "long " * 50]), max_size=12)


@given(st.lists(st.tuples(st.sampled_from("xyz"), TEXTS), max_size=12))
def test_a_file_that_has_changed_is_as_one_put_there_afresh(changes: list[tuple[str, list[str]]]) -> None:
    one, files = LineIndex(), dict[str, list[str]]()
    for key, lines in changes:
        one.put(key, lines)
        files[key] = lines
        afresh = LineIndex()
        for other, there in files.items():
            afresh.put(other, there)
        assert {first: lines for first, lines in one._sorted.items() if lines} == afresh._sorted
        assert {line: sorted(keys) for line, keys in one._keys.items()} == {
            line: sorted(keys) for line, keys in afresh._keys.items()
        }
        assert len(one) == sum(map(len, files.values()))
