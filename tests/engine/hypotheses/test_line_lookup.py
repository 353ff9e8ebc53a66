"""The index of other files' lines: pictures of the lines found for a gap (‸), and changes of files."""

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
    "the line is complete already": ("return total‸", []),
    "behind a line like the one above": ("total = price_of(thing)\n\n    ‸", ["self.till.add(total)"]),
    "the same, with a beginning typed": (
        "total = price_of(thing)\nself.t‸",
        ["self.till.add(total)", "self.till.close()"],
    ),
    "the same, with another beginning typed": ("total = price_of(thing)\nother‸", []),
    "a line above that is too short": ("else:\n‸", []),
    "nothing to go by": ("‸", []),
    "a beginning that no line has": ("cell‸", []),
}


def found(one: LineIndex, picture: str, key: str = "here.py") -> list[str]:
    prefix, _, suffix = picture.partition("‸")
    return sorted({line.text for line in one.near(Hole(prefix=prefix, suffix=suffix), key)})


@pytest.mark.parametrize("name", PICTURES)
def test_lines_found_for_a_gap(name: str) -> None:
    picture, expected = PICTURES[name]
    one = LineIndex()
    one.put("shop.py", bare_lines(OTHER))
    assert found(one, picture) == expected


def test_a_found_line_comes_with_the_lines_around_it() -> None:
    one = LineIndex()
    one.put("shop.py", bare_lines(OTHER))
    hole = Hole(prefix="        self.till.a", suffix="")
    assert one.near(hole, "here.py") == (Line("self.till.add(total)", "total = price_of(item)", "return total"),)
    hole = Hole(prefix="total = price_of(x)\n", suffix="")
    assert one.near(hole, "here.py") == (Line("self.till.add(total)", "total = price_of(item)", ""),)


def test_a_file_s_own_lines_are_found_only_if_another_file_has_them_too() -> None:
    one = LineIndex()
    one.put("here.py", bare_lines(OTHER))
    assert found(one, "return ‸") == found(one, "total = price_of(x)\n‸") == []
    one.put("copy.py", bare_lines(OTHER))
    assert found(one, "return ‸") == ["return total"]
    one.drop("copy.py")
    assert found(one, "return ‸") == []


def test_very_short_and_very_long_lines_are_left_out() -> None:
    one = LineIndex()
    one.put("a.py", (")", "x = " + "1" * MAX_CHARS, "x = 1"))
    assert found(one, "x‸") == ["x = 1"]
    assert found(one, ")‸") == []


def test_many_lines_with_one_beginning_are_sampled_over_their_whole_range() -> None:
    one = LineIndex()
    one.put("a.py", tuple(f"x = {number:04}" for number in range(10 * ALIKE)))
    numbers = [int(text[4:]) for text in found(one, "x = ‸")]
    assert len(numbers) == ALIKE
    assert min(numbers) < 10
    assert max(numbers) >= 9 * ALIKE


def test_a_file_beyond_the_limit_of_lines_is_left_out() -> None:
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
def test_an_index_after_changes_equals_a_new_one(changes: list[tuple[str, list[str]]]) -> None:
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
