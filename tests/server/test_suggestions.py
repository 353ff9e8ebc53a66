"""Suggestions recalled from memory during typing: exact to the character, however the client describes an edit."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from midspan.server.suggestions import BACK, NEAR, SPOTS, Offered, Suggestions
from midspan.server.text.documents import Document, split_lines
from midspan.server.text.line_index import Place

URI = "file:///project/a.py"
PIECES = ["a", "b", "x = 1", "é", "😀", ")", "\t", "\n", "\r\n", "\x0c"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
WITH_LONE_CR = st.lists(st.sampled_from([*PIECES, "\r"]), max_size=8).map("".join)
SUGGESTIONS = st.lists(st.sampled_from(["a", "b", "😀", "(a)", "\n", " "]), min_size=1, max_size=6).map("".join)


def place_at(text: str, offset: int) -> Place:
    """The place of an offset; it must not lie inside a line end."""
    lines = split_lines(text[:offset])
    return len(lines) - 1, len(lines[-1])


def places(text: str) -> list[tuple[int, Place]]:
    """All places of a text, with their offsets."""
    inside = [offset for offset in range(1, len(text)) if text[offset - 1 : offset + 1] == "\r\n"]
    return [(offset, place_at(text, offset)) for offset in range(len(text) + 1) if offset not in inside]


class Screen:
    """A document, its text, and the suggestions that were offered in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.document = Document(URI, "plaintext", 1, text)
        self.suggestions = Suggestions()

    def offer(self, start: Place, *texts: str, end: Place | None = None, invoked: bool = False) -> None:
        """Offer texts at a place."""
        offers = [Offered(id=str(number), text=text) for number, text in enumerate(texts)]
        self.suggestions.remember(self.document, start, start if end is None else end, offers, invoked=invoked)

    def edit(self, begin: int, end: int, text: str) -> None:
        """Replace a part of the document, given by offsets that do not lie inside a line end."""
        span = place_at(self.text, begin), place_at(self.text, end)
        self.suggestions.follow(self.document, span, text)
        self.document.change(span, text, "utf-32")
        self.text = self.text[:begin] + text + self.text[end:]
        assert self.document.text == self.text

    def recalled(self, start: Place, end: Place | None = None, selected: str = "") -> list[str] | None:
        """The suggestions recalled for a place."""
        known = self.suggestions.recall(self.document, start, start if end is None else end, selected)
        return None if known is None else [offer.text for offer in known.offers]

    def type(self, text: str) -> None:
        """Type at the end of the document."""
        for letter in text:
            self.edit(len(self.text), len(self.text), letter)

    def here(self) -> list[str] | None:
        """The suggestions recalled for the document's end."""
        return self.recalled(place_at(self.text, len(self.text)))


@given(st.data(), TEXTS, SUGGESTIONS)
def test_the_typed_part_and_the_recalled_part_make_up_the_suggestion(
    data: st.DataObject, text: str, suggestion: str
) -> None:
    screen = Screen(text)
    begin, start = data.draw(st.sampled_from(places(text)))
    screen.offer(start, suggestion)
    typed = 0
    while typed < len(suggestion):
        assert screen.recalled(place_at(screen.text, begin + typed)) == [suggestion[typed:]]
        if data.draw(st.booleans()):
            # A wrong text is typed, and deleted.
            wrong = begin + typed
            screen.edit(wrong, wrong, "wrong")
            assert screen.recalled(place_at(screen.text, wrong + 5)) is None
            screen.edit(wrong, wrong + 5, "")
        elif typed and data.draw(st.booleans()):
            typed -= 1
            screen.edit(begin + typed, begin + typed + 1, "")
        chunk = data.draw(st.integers(1, len(suggestion) - typed))
        # A client may send a larger range than has changed.
        ends = [offset for offset, _ in places(screen.text)]
        low = data.draw(st.sampled_from([offset for offset in ends if begin - 3 <= offset <= begin + typed]))
        high = data.draw(st.sampled_from([offset for offset in ends if 0 <= offset - begin - typed <= 3]))
        if place_at(screen.text, low)[0] < start[0] or place_at(screen.text, high)[0] > start[0] + suggestion.count(
            "\n"
        ):
            low = high = begin + typed
        kept = screen.text[low : begin + typed], screen.text[begin + typed : high]
        screen.edit(low, high, kept[0] + suggestion[typed : typed + chunk] + kept[1])
        typed += chunk
    assert screen.suggestions.taken(URI) == place_at(screen.text, begin + typed)
    assert screen.recalled(place_at(screen.text, begin + typed)) is None


@given(st.data(), WITH_LONE_CR, SUGGESTIONS)
def test_a_recalled_suggestion_always_gives_the_text_that_was_first_suggested(
    data: st.DataObject, text: str, suggestion: str
) -> None:
    screen = Screen(text)
    begin, start = data.draw(st.sampled_from(places(text)))
    end, stop = data.draw(st.sampled_from([at for at in places(text) if at[1][0] == start[0] and at[0] >= begin]))
    screen.offer(start, suggestion, end=stop)
    wanted = text[:begin] + suggestion + text[end:]
    for _ in range(data.draw(st.integers(0, 3))):
        offsets = st.sampled_from([offset for offset, _ in places(screen.text)])
        low, high = sorted((data.draw(offsets), data.draw(offsets)))
        screen.edit(
            low, high, data.draw(st.sampled_from([suggestion[:1], suggestion[:2], suggestion, "", "a", ")", "\r"]))
        )
    entry = data.draw(st.sampled_from(["", suggestion[:1], suggestion[:2], "b"]))
    for (low, first), (high, last) in itertools.combinations_with_replacement(places(screen.text), 2):
        if first[0] == last[0] and (entry or low == high):
            for answer in screen.recalled(first, last, entry) or []:
                assert answer.startswith(entry)
                assert screen.text[:low] + answer + screen.text[high:] == wanted


@given(st.data(), TEXTS, SUGGESTIONS, TEXTS)
def test_any_other_edit_invalidates_the_suggestion(data: st.DataObject, text: str, suggestion: str, put: str) -> None:
    screen = Screen(text)
    begin, start = data.draw(st.sampled_from(places(text)))
    screen.offer(start, suggestion)
    offsets = st.sampled_from([offset for offset, _ in places(text)])
    low, high = sorted((data.draw(offsets), data.draw(offsets)))
    screen.edit(low, high, put)
    changed = screen.text
    if len(changed) >= len(text) and changed.startswith(text[:begin]) and changed.endswith(text[begin:]):
        return
    assert [screen.recalled(place) for _, place in places(changed)] == [None] * len(places(changed))


def test_a_suggestion_is_recalled_for_its_menu_entry_and_not_for_another() -> None:
    screen = Screen("x = le")
    screen.offer((0, 4), "left + right", end=(0, 6))
    assert screen.recalled((0, 4), (0, 6), "left") == ["left + right"]
    screen.type("f")
    assert screen.recalled((0, 4), (0, 7), "left") == ["left + right"]
    assert screen.recalled((0, 4), (0, 7), "lefthanded") is None
    # Without an entry the menu is closed.
    assert screen.here() == ["t + right"]
    assert screen.recalled((0, 4), (0, 6), "left") is None


def test_a_bracket_that_the_editor_closes_is_not_suggested_again() -> None:
    screen = Screen("f")
    screen.offer((0, 1), "(a, b)")
    screen.edit(1, 1, "()")
    assert screen.recalled((0, 2)) == ["a, b"]
    assert screen.here() is None
    screen.edit(2, 2, "a")
    assert screen.recalled((0, 3)) == [", b"]
    screen.offer((0, 3), "] + [c")
    screen.edit(3, 3, "]")
    assert screen.recalled((0, 3)) is None


def test_a_cursor_within_the_typed_text_is_another_place() -> None:
    screen = Screen("")
    screen.offer((0, 0), "foo.foo")
    screen.type("fo")
    assert screen.here() == ["o.foo"]
    assert screen.recalled((0, 1)) is None


def test_an_edit_that_restores_equal_text_by_chance_invalidates() -> None:
    screen = Screen("aa")
    screen.offer((0, 1), "b")
    screen.edit(0, 2, "a")
    assert screen.recalled((0, 1)) is None


def test_an_edit_that_joins_cr_and_lf_invalidates() -> None:
    screen = Screen("a\n")
    screen.offer((0, 1), "\r\nxyz")
    screen.edit(1, 1, "\r")
    screen.edit(3, 3, "x")
    assert screen.text == "a\r\nx"
    assert screen.recalled((1, 1)) is None
    screen = Screen("a\rb")
    screen.offer((1, 0), "\nq")
    screen.edit(2, 2, "\n")
    screen.edit(3, 3, "q")
    assert [screen.recalled(place) for _, place in places(screen.text)] == [None] * 5


def test_an_empty_answer_for_a_menu_entry_does_not_hold_without_the_entry() -> None:
    screen = Screen("le")
    screen.offer((0, 0), end=(0, 2))
    screen.edit(0, 2, "")
    assert screen.here() is None


def test_the_newest_valid_suggestion_is_recalled_and_older_ones_after_deletions() -> None:
    screen = Screen("")
    screen.offer((0, 0), "abc")
    screen.type("x")
    screen.offer((0, 1), "yz")
    assert screen.here() == ["yz"]
    screen.edit(0, 1, "")
    assert screen.here() == ["abc"]
    screen.type("x")
    assert screen.here() is None


def test_of_several_suggestions_those_that_begin_with_the_typed_text_stay() -> None:
    screen = Screen("")
    screen.offer((0, 0), "abc", "axy", "zzz", invoked=True)
    assert screen.suggestions.recall(screen.document, (0, 0), (0, 0)) is not None
    screen.type("a")
    known = screen.suggestions.recall(screen.document, (0, 1), (0, 1))
    assert known is not None
    assert [(offer.id, offer.text, offer.there) for offer in known.offers] == [("0", "bc", "a"), ("1", "xy", "a")]
    assert not known.complete
    screen.edit(0, 1, "")
    known = screen.suggestions.recall(screen.document, (0, 0), (0, 0))
    assert known is not None
    assert known.complete


def test_the_typed_part_counts_from_the_first_offer() -> None:
    screen = Screen("")
    screen.offer((0, 0), "abcd")
    screen.type("a")
    known = screen.suggestions.recall(screen.document, (0, 1), (0, 1))
    assert known is not None
    screen.suggestions.remember(screen.document, (0, 1), (0, 1), known.offers, invoked=True)
    screen.type("b")
    known = screen.suggestions.recall(screen.document, (0, 2), (0, 2))
    assert known is not None
    assert [(offer.text, offer.there) for offer in known.offers] == [("cd", "ab")]


def test_an_empty_answer_is_remembered_for_its_place_only() -> None:
    screen = Screen("x")
    screen.offer((0, 1))
    assert screen.here() == []
    assert screen.recalled((0, 0)) is None
    assert screen.recalled((0, 1), (0, 1), "entry") is None
    screen.type("y")
    assert screen.here() is None
    screen.edit(1, 2, "")
    assert screen.here() == []


def test_the_number_of_remembered_places_is_limited() -> None:
    screen = Screen("")
    for number in range(SPOTS + 1):
        screen.offer((0, number), "z")
        screen.type("a")
    held: list[list[str] | None] = []
    for number in reversed(range(SPOTS + 1)):
        screen.edit(number, number + 1, "")
        held.append(screen.here())
    assert held == [["z"]] * SPOTS + [None]


def test_a_suggestion_survives_a_limited_number_of_wrong_characters() -> None:
    for astray, held in ((BACK, ["z"]), (BACK + 1, None)):
        screen = Screen("")
        screen.offer((0, 0), "z")
        screen.edit(0, 0, "y" * (1 + astray))
        screen.edit(0, 1 + astray, "")
        assert screen.here() == held


def test_typing_along_is_recognised_in_whole_lines_unless_they_are_long() -> None:
    for size, held in ((NEAR // 2, ["z"]), (NEAR * 2, None)):
        screen = Screen("a" * size)
        screen.offer((0, 10), "zz")
        screen.edit(0, size, "a" * 10 + "z" + "a" * (size - 10))
        assert screen.recalled((0, 11)) == held


def test_a_replaced_text_and_forgetting_remove_suggestions() -> None:
    screen = Screen("a")
    screen.offer((0, 1), "bc")
    screen.edit(0, 1, "d")
    assert screen.here() is None
    screen.offer((0, 1), "bc")
    screen.suggestions.forget(URI)
    assert screen.here() is None
    screen.offer((0, 1), "bc")
    assert screen.here() == ["bc"]
    screen.suggestions.clear()
    assert screen.here() is None


def wary(screen: Screen, place: Place = (0, 0), threshold: float = 0.5) -> float:
    return screen.suggestions.wary(threshold, screen.document, place)


def test_every_suggestion_typed_past_in_a_line_raises_the_threshold_there() -> None:
    screen = Screen("\nnext")
    seen = [wary(screen)]
    for column, letter in enumerate("xyz"):
        screen.offer((0, column), "abc", "ab")
        screen.edit(column, column, letter)
        seen.append(wary(screen))
    assert seen[0] == 0.5
    assert seen == sorted(set(seen))
    assert max(seen) < 1
    assert wary(screen, (1, 0)) == 0.5
    # Thresholds 0 (show everything) and 1 (show nothing) stay.
    assert (wary(screen, threshold=0.0), wary(screen, threshold=1.0)) == (0.0, 1.0)
    screen.edit(0, 3, "")
    assert wary(screen) == 0.5


def test_the_threshold_is_higher_within_a_word_than_at_its_beginning() -> None:
    screen = Screen("a_1 é=(")
    asked = [wary(screen, (0, column)) for column in range(8)]
    # After a letter, a digit or an underscore odds of 1 become odds of 1.5.
    assert asked == [0.5, 0.6, 0.6, 0.6, 0.5, 0.6, 0.5, 0.5]
    assert (wary(screen, (0, 1), 0.0), wary(screen, (0, 1), 1.0)) == (0.0, 1.0)


def test_accepted_or_partly_typed_suggestions_do_not_raise_the_threshold() -> None:
    for typed in ("ab", "abc", "abcd", "xy", "xyz!"):
        screen = Screen("")
        screen.offer((0, 0), "abc", "xyz")
        screen.type(typed)
        assert wary(screen) == 0.5
    screen = Screen("")
    screen.offer((0, 0))
    screen.type("a")
    assert wary(screen) == 0.5
