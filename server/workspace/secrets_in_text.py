"""Lines that may hold a password, a key or a token: the one filter for all text that leaves its own file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from midspan.engine.api import Hole
from midspan.server.workspace.drawn_text import has_drawn_literal
from midspan.server.workspace.secret_patterns import (
    ABOUT,
    ACCOUNT,
    BARE_LANGUAGES,
    COMMENT,
    CONNECTION,
    ISSUED,
    NAME,
    PAIR,
    SENTENCE,
    TOLD,
    UNQUOTED,
    WEBHOOK,
    WORDS_BEHIND_IS,
)
from midspan.server.workspace.secret_values import LITERALS, has_random, is_binary, is_harmless, is_value

# How the first and the last line of a key end; a text with a part of one has either, or is all within it.
PRIVATE_KEY = re.compile(r"PRIVATE KEY(?: BLOCK)?-----")
KEY_NEAR = "a private key stands near the gap, and no prompt may hold one"
# Without one of these, in lower case, no rule of its kind can match; that is found out in a tenth of the time.
NAME_WORDS = (
    "pass", "pw", "psw", "mnemonic", "secret", "token", "key", "cred", "auth", "geheim", "dsn", "conn", "jwt", "otp",
    "pin", "salt", "senha", "clave", "parola", "hasło", "haslo", "heslo", "salasana", "jelsz", "şifre", "sifre", "mdp",
    "wort", "woord", "senord", "contrase", "bearer", "seed", "nonce", "iv", "пароль", "密", "口令", "パス", "비밀",
)  # fmt: skip
TOLD_WORDS = (
    "://", "&", "?", ";", "authorization", "bearer", "basic", "--", " -u", " -p", "identified", "</", "fernet",
    "secretstr", "secretbytes", "secretkeyspec", "hmac", "aes", "chacha", "jwt.", "fromhex", "hexlify", "b64",
    "a2b_", "decodestring", "from_hex", "atob", "with password", "value=", "default",
)  # fmt: skip
PAIR_WORDS = ("auth", "logon", "login", "log_in", "log in", "sign", "credential", "userpwd", "account", "user")
ISSUED_RUN = re.compile(r"[\w/+.=:-]{16}|\$\w+\$")
# Between a name and its value: an assignment with or without a type, an entry, what comes after a quoted name.
TAIL = re.compile(
    r"\w*(?P<closing>[\"'`]?)\s*[\])]{0,2}\s*"
    r"(?P<how>(?:(?<=\s)[\w.*\[\]]{1,30}\s+(?==[^=])|:\s*[^=:\"'`,(){}]{1,40}?\s*)?"
    r"(?:\|\||\?\?|[:?+|])?=(?![=~>])|=>|:(?![:=])|,|\(|\{|===?|!==?|\.equals\(|)\s*"
)
CALLED = re.compile(r"[\w)\]][(\[]$")
CALL, UNLIKE_WORDS = re.compile(r"[\w.]+\(.*"), re.compile(r"[\d!@$%^&*?+~]")
OPEN_END = re.compile(r"[\[({]*\s*(?:[\w.]+\()?\s*[bru]?\\?\s*(?:(?:#|//).*)?$")
BLOCK = re.compile(r"[\w.-]*[\"']?\s*:\s*[|>][+-]?\s*$")
LOOKUP = re.compile(r"[A-Za-z_][\w.:/-]*")
WRAPPED = re.compile(r"(?:str|bytes|String|Secret\w*|b64decode|unhexlify|fromhex|quote\w*|encode\w*|decrypt\w*)\($")
BARE_LINE = re.compile(r"\s*(?:export\s+|-\s+)?(?:(?P<setting>[A-Z][A-Z\d_]+=)|[\w.-]+\s*[:=]\s*)(?P<value>\S+)\s*")
OPEN_TEXT = re.compile(r"\s*[bBfFrRuU]{0,2}(\"\"\"|'''|`)(?:(?!\1).)*$")
CODERS = (".encode(", ".decode(", ".join(", ".split(", ".startswith(", ".endswith(")
NO_VALUE, COMPARED = ("", "==", "===", "!=", "!==", ".equals("), ("==", "===", "!=", "!==", ".equals(")
TARGETS = re.compile(r"\s*[\w.]+(?:\s*,\s*[\w.]+)+\s*=(?!=)")
TELLING = (
    " is ",
    " was ",
    " ist ",
    " est ",
    " es ",
    " s\u00e3o ",
    " \u00e4r ",
    " \u00e9 ",
    ":",
    "=",
    "->",
    "\u2192",
    "/",
)
# A longer line is data, and costs too much.
MAX_CHARS, MAX_VALUES, MAX_OPEN_LINES = 600, 8, 400


class _Words(NamedTuple):
    """What is looked for in a line before anything else, by kind of rule."""

    names: tuple[str, ...]
    told: tuple[str, ...]
    pairs: tuple[str, ...]

    def those_in(self, text: str) -> _Words:
        """Those that a text has at all: of most files' lines few are to be looked for."""
        return _Words(*(tuple(word for word in words if word in text) for words in self))


WORDS = _Words(NAME_WORDS, TOLD_WORDS, PAIR_WORDS)


def has_private_key(text: str) -> bool:
    """Whether a text holds a private key in PEM's form, or the mark of one."""
    return PRIVATE_KEY.search(text) is not None


def asks_about_a_key(hole: Hole) -> bool:
    """Whether a private key stands in what the engine would be asked about."""
    return any(has_private_key(text) for text in (hole.prefix, hole.suffix, hole.draft))


def without_secrets(lines: Sequence[str], language: str = "") -> tuple[str, ...]:
    """The lines but for those that may hold a secret, a value on the line below its name included."""
    return tuple(line for line, is_secret in zip(lines, _flags(lines, language), strict=True) if not is_secret)


def may_hold_secret(line: str, language: str = "") -> bool:
    """Whether a line by itself may hold a secret. In some languages values stand without quotes."""
    return _may_hold(line, language, WORDS)


def _may_hold(line: str, language: str, words: _Words) -> bool:
    if len(line) > MAX_CHARS:
        return True
    small = line.lower()
    if _has(small, words.names) and _says_name(line, small, language):
        return True
    if _has(small, words.told) and _is_told(line):
        return True
    if _has(small, words.pairs) and (_is_pair(line) or _is_account(line)):
        return True
    if ISSUED_RUN.search(line) is not None and (ISSUED.search(line) is not None or has_random(line)):
        return True
    if line.count("\\x") >= 6 and any(is_binary(found["value"], 16) for found in LITERALS.finditer(line)):
        return True
    return has_drawn_literal(line)


def _has(small: str, words: tuple[str, ...]) -> bool:
    for word in words:  # noqa: SIM110 - twice as fast as any(), at every line of a workspace
        if word in small:
            return True
    return False


def _says_name(line: str, small: str, language: str) -> bool:
    """Whether a name of a secret, or a word for one, has a value beside it."""
    if any(_names_value(line, name) for name in NAME.finditer(line)):
        return True
    return _is_connection(line) or _is_written(line, small) or (language in BARE_LANGUAGES and _is_bare(line))


def _flags(lines: Sequence[str], language: str) -> Iterator[bool]:
    """Whether each line may hold a secret, in order."""
    opened, mark, left, within, braced = "", "", 0, False, False
    words = WORDS.those_in("\n".join(lines).lower())
    for line in lines:
        if mark and left:
            # Within a long literal that a name of a secret is set to.
            left -= 1
            mark = "" if mark in line else mark
            yield True
            continue
        literal = LITERALS.match(line.lstrip()) if opened else None
        if literal is not None and braced:
            literal = _entry(line.lstrip(), literal)
        value = literal is not None and is_value(literal["value"], opened.rstrip(",:=>|?+({"))
        value = value or (within and _is_setting(line))
        within ^= bool((line.count('"""') + line.count("'''")) % 2)
        text = OPEN_TEXT.match(line) if literal is not None else None
        now, begun = _opens(line, language, words)
        braced = line.rstrip().endswith("{") if now else braced
        mark, left = begun or ("" if text is None else text[1]), MAX_OPEN_LINES
        yield value or bool(mark) or (opened == "block" and bool(line.strip())) or _may_hold(line, language, words)
        # A value may go on over several literals; of a list only the next one is meant.
        opened = now or (opened if literal is not None and not opened.endswith(",") else "")


def _entry(line: str, literal: re.Match[str]) -> re.Match[str]:
    """The value of an entry whose key is the literal at its line's start; the literal itself where it is no key."""
    value = re.compile(r"\s*(?::|=>)\s*").match(line, literal.end() + len(literal["quote"]))
    return literal if value is None else LITERALS.match(line, value.end()) or literal


def _is_setting(line: str) -> bool:
    """Whether a line of a long literal sets a name of a secret, as in a file of settings that is kept in code."""
    found = BARE_LINE.fullmatch(line)
    return found is not None and _is_bare(line) and (found["setting"] is not None or _mixes(found["value"]))


def _opens(line: str, language: str, words: _Words) -> tuple[str, str]:
    """The kind of the name at whose value, on the next line, a line ends, and the quote of a literal that goes on."""
    if len(line) > MAX_CHARS or not words.names or not _has(line.lower(), words.names):
        return "", ""
    for name in NAME.finditer(line):
        tail = TAIL.match(line, name.end())
        if language in BARE_LANGUAGES and BLOCK.match(line, name.end()):
            return "block", ""
        if tail is None or tail["how"] in NO_VALUE or ABOUT.match(line, name.end()) or _is_quoted(line, name, tail):
            continue
        alone = tail["closing"] or " " not in line[: name.start()].strip()
        if ")" in line[name.end() : tail.start("how")] or (tail["how"] == ":" and not alone):
            # The head of a function or a condition, and a text below it.
            continue
        if OPEN_END.match(line, tail.end()) and (tail["how"] != "," or tail["closing"]):
            return str(name.lastgroup) + tail["how"], ""
        if (text := OPEN_TEXT.match(line, tail.end())) and name.lastgroup != "key" and tail["how"] not in ",({":
            return "", text[1]
    return "", ""


def _names_value(line: str, name: re.Match[str]) -> bool:
    """Whether a name of a secret has a value beside it."""
    kind, tail = str(name.lastgroup), TAIL.match(line, name.end())
    if tail is None or ABOUT.match(line, name.end()) or _is_quoted(line, name, tail):
        return False
    how, at = tail["how"], tail.end()
    if how in (*COMPARED, "("):
        direct = LITERALS.match(line, at)
        return kind == "password" and direct is not None and is_value(direct["value"], kind)
    if how in ("", ",", "{"):
        direct = LITERALS.match(line, at)
        beside = tail["closing"] or "assert" in line[: name.start()].lower()
        if direct is None or (how == "," and not beside) or (how != "," and tail["closing"]):
            return False
        alone = name[0].lower() == "pass" and not line[: name.start()].endswith("_")
        if how == "" and (alone or direct["quote"] == "`"):
            return False  # English, and Markdown
        value = direct["value"]
        is_name = how == "," and NAME.search(value) is not None and not any(letter.isdigit() for letter in value)
        return at > name.end() and kind in ("password", "strong") and not is_name and is_value(value, kind)
    through = TARGETS.match(line) is not None
    return any(is_value(value, kind) for value in _values(line, at, through=through))


def _is_quoted(line: str, name: re.Match[str], tail: re.Match[str]) -> bool:
    """Whether a name stands within a literal that goes on behind it."""
    return not tail["closing"] and any(line.count(mark, 0, name.start()) % 2 for mark in "\"'`")


def _values(line: str, at: int, *, through: bool) -> Iterator[str]:
    """The literals of an expression, `through` its commas or up to one, but for what something is looked up by."""
    end, depth = len(line), 0
    for _ in range(MAX_VALUES):
        literal = LITERALS.search(line, at)
        between = line[at : end if literal is None else literal.start()]
        for character in between:
            depth += (character in "([{") - (character in ")]}")
            if depth < 0 or (depth == 0 and character in ",;" and not through):
                return
        if literal is None:
            return
        before, value = between.rstrip(), literal["value"]
        at = min(end, literal.end() + len(literal["quote"]))
        looked_up = CALLED.search(line[: literal.start()].rstrip()) is not None and WRAPPED.search(before) is None
        if not before.endswith(CODERS) and not (looked_up and _is_lookup(value)):
            yield value


def _is_lookup(value: str) -> bool:
    """Whether something is looked up by a text: a name that is made of words."""
    if LOOKUP.fullmatch(value) is None:
        return not value.strip()
    return not any(letter.isdigit() for letter in value) or NAME.search(value) is not None


def _is_told(line: str) -> bool:
    """Whether an address, a header, an option or a call holds a value that is one."""
    for pattern in TOLD:
        for found in pattern.finditer(line):
            if not is_harmless(next(filter(None, found.groupdict().values()), "")):
                return True
    return any(_is_hook(found[0]) for found in WEBHOOK.finditer(line))


def _is_connection(line: str) -> bool:
    """Whether a literal holds a connection string with a password."""
    for found in CONNECTION.finditer(line) if "=" in line else ():
        before = line[: found.start()]
        if any(before.count(mark) % 2 for mark in "\"'`") and not is_harmless(found["value"]):
            return True
    return False


def _is_pair(line: str) -> bool:
    """Whether a name and a password stand side by side where somebody logs in."""
    pair = PAIR.search(line)
    return pair is not None and " " not in pair["value"].strip() and not is_harmless(pair["value"])


def _is_hook(address: str) -> bool:
    """Whether an address has a part that nobody could guess."""
    parts = re.split(r"[/?&=]", address.partition("://")[2])[1:]
    mixed = (part for part in parts if re.search(r"\d", part) and re.search(r"[A-Za-z]", part))
    return any(len(part) >= 20 or re.fullmatch(r"\w{8,}", part) for part in mixed)


def _is_written(line: str, small: str) -> bool:
    """Whether a sentence, in a comment or not, tells a password."""
    if not _has(small, TELLING):
        return False
    comment = COMMENT.search(line)
    for found in SENTENCE.finditer(line, 0 if comment is None else comment.end()):
        value = found["value"].rstrip(".,;:)!?")
        if not value or is_harmless(value):
            continue
        within = found["how"][0].isalpha() or any(line.count(mark, 0, found.start()) % 2 for mark in "\"'`")
        if (comment is None and not (within and _mixes(value))) or (found["other"] and not found["quote"]):
            continue
        ends = not found["rest"].strip(" .*/\"'->")
        if found["quote"] or _mixes(value) or (ends and value.lower() not in WORDS_BEHIND_IS and value.isalpha()):
            return True
    return False


def _is_account(line: str) -> bool:
    """Whether a comment names an account and its password side by side."""
    comment = COMMENT.search(line)
    return comment is not None and any(_mixes(found["value"]) for found in ACCOUNT.finditer(line, comment.end()))


def _mixes(value: str) -> bool:
    """Whether a word has a letter, and a figure or a sign that words do not have; a call is no word."""
    if CALL.fullmatch(value) is not None or not any(letter.isalpha() for letter in value):
        return False
    return UNLIKE_WORDS.search(value.rstrip("?!")) is not None


def _is_bare(line: str) -> bool:
    """Whether a name of a secret has a value without quotes."""
    for name in NAME.finditer(line):
        found = UNQUOTED.match(line, name.end())
        if found is None or name.lastgroup == "key" or ABOUT.match(line, name.end()):
            continue
        if is_value(found["value"], str(name.lastgroup)):
            return True
    return False
