"""The table of languages, as data: grammar, node types, comments, quotes, and the words that open and close blocks.

Node types are those of the pinned grammars. A grammar is imported when its first document is opened: twenty of them at
the start would be felt in `initialize`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from midspan.server.text.language_ids import spellings

if TYPE_CHECKING:
    from tree_sitter import Language as Grammar

Words = frozenset[str]
Tags = Literal["none", "closing", "all"]
DOUBLE, SINGLE = r'"(?:\\.|[^"\\\n])*"', r"'(?:\\.|[^'\\\n])*'"
BACKTICK, LETTER = r"`(?:\\.|[^`\\])*`", r"'(?:\\[^\n']*|[^'\\\n])'"
DOUBLED = r'"(?:""|[^"\n])*"|' + r"'(?:''|[^'\n])*'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One language. `name` is what settings and checkpoints call it; language_ids.py knows what editors call it.

    `strings`, `comments`, `interpolations` (code within a string), `arguments` (lists in which no statement stands) and
    `imports` are node types. A node of `blocks` without a child that begins on a later row is an empty block; `headers`
    are the nodes whose last colon opens one. `open_strings` have no closing mark: the place at their end is within.
    `literals` is a pattern of literals on a line; `words` are patterns of block openers and what closes them (group 1).
    `tags` are HTML's; where a type may look like an opening tag, only closing ones are sure. `fences` begin lines.
    """

    name: str
    package: str = ""
    function: str = "language"
    extensions: tuple[str, ...] = ()
    strings: Words = frozenset()
    open_strings: Words = frozenset()
    string_starts: tuple[str, ...] = ()
    comments: Words = frozenset()
    interpolations: Words = frozenset()
    blocks: Words = frozenset()
    headers: Words = frozenset()
    arguments: Words = frozenset()
    imports: Words = frozenset()
    line_comments: tuple[str, ...] = ()
    block_comments: tuple[tuple[str, str], ...] = ()
    literals: str = rf"{DOUBLE}|{SINGLE}"
    words: tuple[tuple[str, str], ...] = ()
    tags: Tags = "none"
    fences: tuple[str, ...] = ()

    def grammar(self) -> Grammar:
        """The grammar, from its package. Raises ModuleNotFoundError where the package is not installed."""
        return _grammar(self.package, self.function)


@cache
def _grammar(package: str, function: str) -> Grammar:
    from tree_sitter import Language as Grammar

    return Grammar(getattr(importlib.import_module(package), function)())


def _set(words: str) -> Words:
    return frozenset(words.split())


C_COMMENTS = (("/*", "*/"),)
# Words that close a block: `end` anywhere but in a name, Bash's where a command stands.
END = r"(?<![\w.:@$])(end)\b(?![?!:=])"
# Where a Ruby statement begins: a trailing `if` is a modifier and opens nothing, a loop's `do` belongs to the loop.
RUBY_OPENERS = (
    r"(?:^|(?<=[=;(]))[ \t]*(?:(?:while|until|for)\b[^\n]*?(?:\bdo\b|$)|(?:if|unless|case|def|class|module|begin)\b)"
    r"|\bdo\b(?=[ \t]*(?:\|[^|\n]*\|)?[ \t]*$)"
)

PLAIN = Language(name="plaintext")
PYTHON = Language(
    name="python",
    package="tree_sitter_python",
    extensions=(".py", ".pyi", ".pyw"),
    strings=_set("string"),
    comments=_set("comment"),
    interpolations=_set("interpolation"),
    blocks=_set("block"),
    headers=_set(
        "function_definition class_definition if_statement elif_clause else_clause for_statement while_statement"
        " with_statement try_statement except_clause finally_clause match_statement case_clause"
    ),
    arguments=_set("argument_list parameters list tuple dictionary set subscript parenthesized_expression"),
    imports=_set("import_statement import_from_statement future_import_statement"),
    line_comments=("#",),
)
JAVASCRIPT = Language(
    name="javascript",
    package="tree_sitter_javascript",
    extensions=(".js", ".jsx", ".mjs", ".cjs"),
    strings=_set("string template_string regex"),
    comments=_set("comment html_comment"),
    interpolations=_set("template_substitution"),
    blocks=_set("statement_block class_body switch_body object class_static_block"),
    arguments=_set("arguments formal_parameters array parenthesized_expression subscript_expression"),
    imports=_set("import_statement"),
    line_comments=("//",),
    block_comments=C_COMMENTS,
    literals=rf"{DOUBLE}|{SINGLE}|{BACKTICK}",
    tags="closing",
)
TYPESCRIPT = replace(
    JAVASCRIPT,
    name="typescript",
    package="tree_sitter_typescript",
    function="language_typescript",
    extensions=(".ts", ".mts", ".cts"),
    interpolations=JAVASCRIPT.interpolations | {"template_type"},
    blocks=JAVASCRIPT.blocks | {"interface_body", "enum_body", "object_type"},
    arguments=JAVASCRIPT.arguments | {"type_arguments"},
)
TSX = replace(TYPESCRIPT, name="tsx", function="language_tsx", extensions=(".tsx",))
GO = Language(
    name="go",
    package="tree_sitter_go",
    extensions=(".go",),
    strings=_set("interpreted_string_literal raw_string_literal rune_literal"),
    comments=_set("comment"),
    blocks=_set(
        "block field_declaration_list interface_type literal_value expression_switch_statement"
        " type_switch_statement select_statement"
    ),
    arguments=_set("argument_list parameter_list index_expression parenthesized_expression type_arguments"),
    imports=_set("import_declaration"),
    line_comments=("//",),
    block_comments=C_COMMENTS,
    literals=rf"{DOUBLE}|{LETTER}|{BACKTICK}",
)
RUST = Language(
    name="rust",
    package="tree_sitter_rust",
    extensions=(".rs",),
    strings=_set("string_literal raw_string_literal char_literal"),
    comments=_set("line_comment block_comment"),
    blocks=_set("block declaration_list field_declaration_list enum_variant_list match_block field_initializer_list"),
    arguments=_set("arguments parameters array_expression tuple_expression parenthesized_expression type_arguments"),
    imports=_set("use_declaration extern_crate_declaration"),
    line_comments=("//",),
    block_comments=C_COMMENTS,
    literals=rf'r(#*)".*?"\1|{DOUBLE}|{LETTER}',
)
JAVA = Language(
    name="java",
    package="tree_sitter_java",
    extensions=(".java",),
    strings=_set("string_literal character_literal"),
    comments=_set("line_comment block_comment"),
    interpolations=_set("string_interpolation"),
    blocks=_set(
        "block class_body interface_body enum_body constructor_body annotation_type_body switch_block array_initializer"
    ),
    arguments=_set("argument_list formal_parameters array_access parenthesized_expression type_arguments"),
    imports=_set("import_declaration"),
    line_comments=("//",),
    block_comments=C_COMMENTS,
    literals=rf"{DOUBLE}|{LETTER}",
)
C = Language(
    name="c",
    package="tree_sitter_c",
    extensions=(".c", ".h"),
    strings=_set("string_literal char_literal system_lib_string"),
    comments=_set("comment"),
    blocks=_set("compound_statement field_declaration_list enumerator_list initializer_list declaration_list"),
    arguments=_set("argument_list parameter_list parenthesized_expression subscript_expression"),
    imports=_set("preproc_include"),
    line_comments=("//",),
    block_comments=C_COMMENTS,
    literals=rf"{DOUBLE}|{LETTER}",
    words=((r"^[ \t]*#[ \t]*if", r"^[ \t]*(#[ \t]*endif)\b"),),
)
CPP = replace(
    C,
    name="cpp",
    package="tree_sitter_cpp",
    extensions=(".cc", ".cpp", ".cxx", ".hpp", ".hh", ".cu"),
    strings=C.strings | {"raw_string_literal"},
    blocks=C.blocks | {"requirement_seq"},
    arguments=C.arguments | {"template_argument_list"},
    imports=C.imports | {"using_declaration"},
)
C_SHARP = Language(
    name="csharp",
    package="tree_sitter_c_sharp",
    extensions=(".cs",),
    strings=_set(
        "string_literal verbatim_string_literal raw_string_literal character_literal interpolated_string_expression"
    ),
    comments=_set("comment"),
    interpolations=_set("interpolation"),
    blocks=_set("block declaration_list enum_member_declaration_list accessor_list switch_body initializer_expression"),
    arguments=_set("argument_list parameter_list bracketed_argument_list parenthesized_expression type_argument_list"),
    imports=_set("using_directive"),
    line_comments=("//",),
    block_comments=C_COMMENTS,
    literals=rf"{DOUBLE}|{LETTER}",
)
RUBY = Language(
    name="ruby",
    package="tree_sitter_ruby",
    extensions=(".rb", ".rake", ".gemspec"),
    strings=_set("string string_array symbol_array regex subshell heredoc_body"),
    comments=_set("comment"),
    interpolations=_set("interpolation"),
    blocks=_set(
        "method singleton_method class singleton_class module do_block block if unless while until for case when else"
        " elsif begin rescue ensure then do hash"
    ),
    arguments=_set("argument_list method_parameters array element_reference parenthesized_statements"),
    line_comments=("#",),
    block_comments=(("=begin", "=end"),),
    words=((RUBY_OPENERS, END),),
)
PHP = Language(
    name="php",
    package="tree_sitter_php",
    function="language_php",
    extensions=(".php", ".phtml"),
    strings=_set("string encapsed_string heredoc_body nowdoc_body"),
    comments=_set("comment"),
    interpolations=_set("variable_name member_access_expression subscript_expression"),
    blocks=_set("compound_statement declaration_list enum_declaration_list switch_block match_block"),
    arguments=_set("arguments formal_parameters array_creation_expression parenthesized_expression"),
    imports=_set("namespace_use_declaration include_expression include_once_expression require_once_expression"),
    line_comments=("//", "#"),
    block_comments=C_COMMENTS,
)
BASH = Language(
    name="bash",
    package="tree_sitter_bash",
    extensions=(".sh", ".bash"),
    strings=_set("string raw_string ansi_c_string heredoc_body"),
    comments=_set("comment"),
    interpolations=_set("command_substitution expansion arithmetic_expansion"),
    blocks=_set("compound_statement do_group if_statement elif_clause else_clause case_statement case_item"),
    arguments=_set("array test_command"),
    line_comments=("#",),
    literals=r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'",
    words=(
        (r"(?:^|[;|&({]|\b(?:then|else|do)\b)[ \t]*if\b", r"(?:^|;)[ \t]*(fi)\b"),
        (r"(?:^|;)[ \t]*do\b", r"(?:^|;)[ \t]*(done)\b"),
        (r"(?:^|;)[ \t]*case\b", r"(?:^|;)[ \t]*(esac)\b"),
    ),
)
JSON = Language(
    name="json",
    package="tree_sitter_json",
    extensions=(".json", ".jsonc"),
    strings=_set("string"),
    comments=_set("comment"),
    blocks=_set("object array"),
    line_comments=("//",),
    block_comments=C_COMMENTS,
    literals=DOUBLE,
)
YAML = Language(
    name="yaml",
    package="tree_sitter_yaml",
    extensions=(".yaml", ".yml"),
    strings=_set("single_quote_scalar double_quote_scalar block_scalar"),
    open_strings=_set("block_scalar"),
    comments=_set("comment"),
    headers=_set("block_mapping_pair"),
    arguments=_set("flow_sequence flow_mapping"),
    line_comments=("#",),
    literals=rf"{DOUBLE}|(?<![\w])'(?:''|[^'\n])*'",
)
TOML = Language(
    name="toml",
    package="tree_sitter_toml",
    extensions=(".toml",),
    strings=_set("string"),
    comments=_set("comment"),
    arguments=_set("array inline_table"),
    line_comments=("#",),
)
HTML = Language(
    name="html",
    package="tree_sitter_html",
    extensions=(".html", ".htm"),
    strings=_set("quoted_attribute_value"),
    comments=_set("comment"),
    blocks=_set("element script_element style_element"),
    arguments=_set("start_tag self_closing_tag"),
    block_comments=(("<!--", "-->"),),
    literals=r"(?<==)(?:\"[^\"\n]*\"|'[^'\n]*')",
    tags="all",
)
CSS = Language(
    name="css",
    package="tree_sitter_css",
    extensions=(".css",),
    strings=_set("string_value"),
    comments=_set("comment"),
    blocks=_set("block keyframe_block_list"),
    arguments=_set("arguments"),
    imports=_set("import_statement"),
    block_comments=C_COMMENTS,
)
MARKDOWN = Language(
    name="markdown",
    package="tree_sitter_markdown",
    extensions=(".md", ".markdown"),
    comments=_set("html_block"),
    block_comments=(("<!--", "-->"),),
    literals=r"`[^`\n]*`",
    fences=("```", "~~~"),
)
SQL = Language(
    name="sql",
    package="tree_sitter_sql",
    extensions=(".sql",),
    strings=_set("literal"),
    string_starts=("'", '"', "$"),
    comments=_set("comment marginalia"),
    arguments=_set("invocation column_definitions list"),
    line_comments=("--",),
    block_comments=C_COMMENTS,
    literals=DOUBLED,
    words=((r"(?i:\b(?:begin(?!\s*(?:;|transaction|work))|case)\b)", rf"(?i:{END})"),),
)
LUA = Language(
    name="lua",
    package="tree_sitter_lua",
    extensions=(".lua",),
    strings=_set("string"),
    comments=_set("comment"),
    blocks=_set(
        "function_declaration function_definition if_statement elseif_statement else_statement while_statement"
        " for_statement repeat_statement do_statement table_constructor"
    ),
    arguments=_set("arguments parameters bracket_index_expression parenthesized_expression"),
    line_comments=("--",),
    block_comments=(("--[[", "]]"),),
    words=((r"\b(?:function|do|if)\b", END), (r"\brepeat\b", r"\b(until)\b")),
)
TABLE = (
    PYTHON, JAVASCRIPT, TYPESCRIPT, TSX, GO, RUST, JAVA, C, CPP, C_SHARP, RUBY, PHP, BASH, JSON, YAML, TOML, HTML, CSS,
    MARKDOWN, SQL, LUA,
)  # fmt: skip
BY_NAME = {language.name: language for language in (PLAIN, *TABLE)}
BY_EXTENSION = {extension: language.name for language in TABLE for extension in language.extensions}


def language_of(language_id: str) -> Language:
    """The language of an LSP languageId; a language that the table does not know is plain text."""
    return BY_NAME.get(name_of(language_id), PLAIN)


@lru_cache(256)
def name_of(language_id: str) -> str:
    """One name for all ids of a language, as editors spell them; an id that is in no table stands for itself."""
    return next((name for name in spellings(language_id) if name in BY_NAME), language_id)


def name_in(language_id: str, uri: str) -> str:
    """The name of a document's language: by its id or, where no table knows that, by how its URI's path ends."""
    name = name_of(language_id)
    ending = PurePosixPath(uri.partition("#")[0].partition("?")[0]).suffix.lower()
    return name if name in BY_NAME else BY_EXTENSION.get(ending, name)


def is_on(language_id: str, trained: Collection[str], chosen: Mapping[str, bool]) -> bool:
    """Whether gaps are filled in a language: as the user chose, else where the checkpoint was trained on it."""
    chosen = {name_of(name): on for name, on in chosen.items()}
    return chosen.get(name_of(language_id), name_of(language_id) in map(name_of, trained))


def off_because(language_id: str, checkpoint: str, trained: Collection[str]) -> str:
    """Why no gap of a language is filled, and the fix, in one line; an unknown id is a client's text: not quoted."""
    name = name_of(language_id)
    if name not in BY_NAME:
        return 'no fills in a language that midspan has no grammar of; "languages": {"its LSP id": true} turns it on'
    known = "was trained on it, but it is off" if name in map(name_of, trained) else f"knows {', '.join(trained)} only"
    return f'no fills in {name}: {checkpoint} {known}; the setting "languages": {{"{name}": true}} turns it on'


@cache
def literals_of(language: Language) -> re.Pattern[str]:
    """Whole literals on a line, and comments up to its end."""
    # `#` within a word is no comment: `$#`, `${x#y}`.
    comments = [rf"(?<!\S){mark}[^\n]*" if mark == "#" else f"{mark}[^\n]*" for mark in language.line_comments]
    blocks = [f"{re.escape(start)}.*?{re.escape(end)}" for start, end in language.block_comments]
    return re.compile("|".join([language.literals, *blocks, *comments]), re.M | re.S)
