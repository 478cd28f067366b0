"""The front matter reader: real files load, repairs are told, hostile files do no harm."""

import contextlib
import pickle
import textwrap
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from claude_force.library.frontmatter import (
    MAX_DEPTH,
    MAX_FILE_BYTES,
    MAX_FRONT_MATTER_CHARS,
    Document,
    FrontMatterError,
    _Front,
    _plain_mapping,
    read_document,
)

KEYS = {"name", "description", "tools", "model", "color", "argument-hint"}


def read(text: str | bytes) -> Document:
    """The document in this text."""
    return read_document(text if isinstance(text, bytes) else text.encode(), known_keys=KEYS)


def front(yaml: str) -> Document:
    """The document with this front matter and the body "Body."."""
    return read(f"---\n{yaml}\n---\nBody.")


def said(document: Document) -> Document:
    """What a document says, wherever in its file that stands."""
    return msgspec.structs.replace(document, front=(), first_line=0)


# ------------------------------------------------------------ taking a file apart


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"---\nname: a\n---\nBody.", id="plain"),
        pytest.param(b"\xef\xbb\xbf---\nname: a\n---\nBody.", id="byte order mark"),
        pytest.param(b"---\r\nname: a\r\n---\r\nBody.", id="CRLF"),
        pytest.param(b"---\rname: a\r---\rBody.", id="CR"),
        pytest.param(b"\n \n---\nname: a\n---\nBody.", id="blank lines first"),
        pytest.param(b"---  \nname: a\n--- \nBody.", id="spaces after the dashes"),
        pytest.param(b"---\nname: a\n" + b"-" * 56 + b"\nBody.", id="closed by 56 dashes"),
        pytest.param(b"---\n\nname: a\n# comment\n---\nBody.", id="blank line and comment inside"),
    ],
)
def test_takes_well_formed_files_apart_without_a_warning(data: bytes) -> None:
    """Byte order marks, line ends and the length of the dashes make no difference."""
    expected = Document(meta={"name": "a"}, body="Body.", has_front_matter=True, warnings=())
    assert expected == said(read(data))


def test_leaves_the_body_as_it_is() -> None:
    """Rules, tables and code in the body survive, even where they look like front matter."""
    body = "\n# Head\n\n---\n\n    name: other\n---\n| a | b |\n  \n"
    assert body == read(f"---\nname: a\n---\n{body}").body


@pytest.mark.parametrize(
    "text",
    ["", "Only prose.\n", "# Head\n---\nname: a\n---\n", "-----\nname: a\n-----\n", " ---\nname: a\n---\n"],
    ids=["empty", "prose", "rule below text", "five dashes", "an indented rule"],
)
def test_a_file_without_front_matter_is_all_body(text: str) -> None:
    """Nothing is taken for front matter that does not open with three dashes on its first line."""
    assert Document(meta={}, body=text, has_front_matter=False, warnings=()) == said(read(text))


def test_an_empty_front_matter_is_one() -> None:
    """Two dashed lines with nothing between them say nothing, and are no mistake."""
    assert Document(meta={}, body="Body.", has_front_matter=True, warnings=()) == said(read("---\n---\nBody."))


def test_a_file_that_is_indented_as_a_whole_is_read_with_a_warning() -> None:
    """A file pasted with its indentation loads, and its author is told."""
    document = read(textwrap.indent("---\nname: a\n---\nBody.\n  - deeper\n", "    "))
    assert (document.meta, document.body) == ({"name": "a"}, "Body.\n  - deeper\n")
    assert "indented" in document.warnings[0]


def test_a_file_that_is_not_utf_8_is_read_with_a_warning() -> None:
    """Files of old Windows editors keep their letters and quotes."""
    document = read("---\nname: caf\u00e9\n---\n\u201cBody\u201d".encode("cp1252"))
    assert (document.meta["name"], document.body) == ("caf\u00e9", "\u201cBody\u201d")
    assert document.warnings == ("line 2: the file is not UTF-8 and was read as Windows-1252; save it as UTF-8",)


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        pytest.param("---\nname: a\n---\n".encode("utf-16"), None, "UTF-16", id="UTF-16 with mark"),
        pytest.param("---\nname: a\n---\n".encode("utf-16-be"), 1, "NUL", id="UTF-16 without mark"),
        pytest.param(b"---\nname: a\n---\nBo\0dy", 4, "NUL", id="NUL in the body"),
        pytest.param(b"\n---\nname: a\nBody.\n", 2, "nothing closes", id="never closed"),
        pytest.param(b"---\n- a\n- b\n---\n", 2, "is a list", id="a list"),
        pytest.param(b"---\njust words\n---\n", 2, "is plain text", id="a text"),
        pytest.param(b"x" * (MAX_FILE_BYTES + 1), None, "1,048,576 bytes", id="a huge file"),
        pytest.param(
            b"---\na: " + b"x" * MAX_FRONT_MATTER_CHARS + b"\n---\n", 1, "65,536 characters", id="a huge front matter"
        ),
        pytest.param(b"---\n)( stray\nname: a\n---\n", 3, "no valid YAML", id="stray text first"),
        pytest.param(b"---\n? [a, b]\n: c\n---\n", 2, "a key is a list", id="a list as key"),
        pytest.param(b"---\n\tname: a\ntools: b\n---\n", 2, "no valid YAML", id="one key indented by a tab"),
    ],
)
def test_says_what_is_wrong_and_where(data: bytes, line: int | None, words: str) -> None:
    """A file that cannot be taken apart is one clear error with its line, never a traceback of the YAML library."""
    with pytest.raises(FrontMatterError) as caught:
        read(data)
    assert (line, True) == (caught.value.line, words in caught.value.reason)


def test_the_error_survives_pickle() -> None:
    """Another process gets the same reason, line and text."""
    error = FrontMatterError("no; do", 3)
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (copied.reason, copied.line, str(copied)) == ("no; do", 3, "line 3: no; do")


# ------------------------------------------------------------ YAML as people write it


@pytest.mark.parametrize(
    ("yaml", "key", "value"),
    [
        pytest.param("description: |\n  One: a\n  # Two\n", "description", "One: a\n# Two\n", id="block scalar"),
        pytest.param("description: >-\n  One\n  two\n", "description", "One two", id="folded scalar"),
        pytest.param("description: One\n  two\n", "description", "One two", id="indented lines"),
        pytest.param('description: "a: b # c"', "description", "a: b # c", id="quoted"),
        pytest.param(r"description: One.\n\nTwo.", "description", r"One.\n\nTwo.", id="literal backslash n"),
        pytest.param("tools: [Read, Grep]", "tools", ["Read", "Grep"], id="flow list"),
        pytest.param("tools:\n- Read\n- Grep", "tools", ["Read", "Grep"], id="list at the margin"),
        pytest.param("tools: []", "tools", [], id="empty list"),
        pytest.param("emoji: 🚀\nvibe: x", "emoji", "🚀", id="unknown key"),
        pytest.param("on: push", "on", "push", id="a key that YAML takes for true"),
        pytest.param("1: one", "1", "one", id="a number as key"),
        pytest.param("date: 2024-99-99", "date", "2024-99-99", id="a date that does not exist"),
        pytest.param("<<: {a: 1}", "<<", {"a": 1}, id="nothing is merged"),
    ],
)
def test_reads_what_yaml_reads(yaml: str, key: str, value: Any) -> None:
    """Valid YAML means what YAML says, also where a reader of lines would see something else, and costs no warning."""
    document = front(yaml)
    assert (value, ()) == (document.meta[key], document.warnings)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        pytest.param("description: Use when: asked", "description", "Use when: asked", id="colon"),
        pytest.param("description: Use when: asked # 1", "description", "Use when: asked # 1", id="colon and hash"),
        pytest.param("argument-hint: [a] [b]", "argument-hint", "[a] [b]", id="two brackets"),
        pytest.param("argument-hint: [x] | --flag", "argument-hint", "[x] | --flag", id="bracket and bar"),
        pytest.param("tools: *", "tools", "*", id="a star"),
        pytest.param("description: *all* of it", "description", "*all* of it", id="stars"),
        pytest.param("description: *all", "description", "*all", id="a star and a word"),
        pytest.param("description: @someone", "description", "@someone", id="an at sign"),
        pytest.param("description: `code`", "description", "`code`", id="a backtick"),
        pytest.param("description: %d of them", "description", "%d of them", id="a percent sign"),
        pytest.param("description: - item", "description", "- item", id="a dash"),
        pytest.param("description: !now do it", "description", "!now do it", id="an exclamation mark"),
        pytest.param("description: | a | b |", "description", "| a | b |", id="a table"),
        pytest.param('description: "one" and "two"', "description", '"one" and "two"', id="quotes inside"),
        pytest.param(r'description: "a \d"', "description", r"a \d", id="a wrong escape"),
        pytest.param('description: 😀: \u2028 \\ "q" \u00e9', "description", '😀: \u2028 \\ "q" \u00e9', id="unicode"),
        pytest.param("turns: !!int many", "turns", "!!int many", id="a tag that does not fit"),
        pytest.param("turns: !!bool many", "turns", "!!bool many", id="another one"),
        pytest.param("turns: " + "9" * 5000, "turns", "9" * 5000, id="a number beyond Python"),
    ],
)
def test_one_line_that_is_no_yaml_is_read_as_text(line: str, key: str, value: str) -> None:
    """A value on one line is what its author sees, the keys around it are unharmed, and a warning has the fix."""
    document = front(f"name: a\n{line}\nmodel: opus")
    assert {"name": "a", key: value, "model": "opus"} == document.meta
    (warning,) = document.warnings
    assert warning.startswith(f"line 3: the value of {key!r}")
    assert warning.endswith("put it in quotes")


EXAMPLES = """\
Use this agent when: you must. Examples:

<example>
Context: The user is here.
user: "Please do: this"
assistant: "I'll do: that"
<commentary>
Since: so.
</commentary>
</example>"""


@pytest.mark.parametrize(
    ("yaml", "value"),
    [
        pytest.param(f"description: {EXAMPLES}", EXAMPLES, id="examples at the margin"),
        pytest.param(f"description: >\n{EXAMPLES}", EXAMPLES, id="a block header without a block"),
        pytest.param(f"description: '{EXAMPLES}", f"'{EXAMPLES}", id="a quote that is not closed"),
        pytest.param(
            'description: Use: Examples:\nuser: "a"\n<b>',
            'Use: Examples:\nuser: "a"\n<b>',
            id="a later fault over two lines",
        ),
        pytest.param(
            'description: Use: A\nuser: "a" b\nuser: "c" d', 'Use: A\nuser: "a" b\nuser: "c" d', id="later faults"
        ),
        pytest.param("description: a: b\n  c: d", "a: b\nc: d", id="an indented colon"),
        pytest.param('description: "One\nContext: two\nend"', "One Context: two end", id="a quoted text is left alone"),
    ],
)
def test_a_description_over_many_lines_stays_whole(yaml: str, value: str) -> None:
    """What nobody indented is still one text, up to the next key that is known; a warning says how to write it."""
    document = front(f"name: a\n{yaml}\nmodel: opus\ncolor: 1: 2")
    assert {"name": "a", "description": value, "model": "opus", "color": "1: 2"} == document.meta
    assert all(warning.startswith("line ") for warning in document.warnings)
    if not value.startswith("One "):
        assert any(w.startswith("line 3: the value of 'description' up to line") for w in document.warnings)
        assert any("write 'description: |'" in w for w in document.warnings)


def test_a_key_that_was_seen_stays_inside_a_long_value() -> None:
    """An example in a description may say `name:` without renaming the agent."""
    document = front("name: a\ndescription: Use: A\n<example>\nname: b\nmodel: opus")
    assert document.meta == {"name": "a", "description": "Use: A\n<example>\nname: b", "model": "opus"}


def test_a_list_over_many_lines_is_left_alone() -> None:
    """A fault elsewhere does not cost a list whose second line looks like a key."""
    document = front("tools: [Read,\nuser: [b]]\ncolor: 1: 2")
    assert document.meta == {"tools": ["Read", {"user": ["b"]}], "color": "1: 2"}
    assert len(document.warnings) == 1


def test_a_later_fault_is_one_warning_with_the_right_fix() -> None:
    """A description that turns out to be longer is not first said to need quotes only."""
    (warning,) = front('description: Use: A\nuser: "a" b\nmodel: opus').warnings
    assert warning.startswith("line 2: the value of 'description' up to line 3")


def test_a_long_value_does_not_swallow_the_keys_before_it() -> None:
    """An unknown key that is broken takes its own lines, not those of the good keys above."""
    document = front("description: a: b\ntools: Read\nnotes: [x\n y: z")
    assert document.meta == {"description": "a: b", "tools": "Read", "notes": "[x\ny: z"}


def test_a_repaired_file_still_reports_true_lines() -> None:
    """A warning below a repaired value names the line in the file."""
    document = front("description: a: b\n\n<example>\nname: x\nmodel: opus # 5")
    assert any(warning.startswith("line 6: YAML takes the ' #' in 'model'") for warning in document.warnings)


@pytest.mark.parametrize(
    "yaml", ["tools:\n\t- Read\n\t- Grep", "\tname: a\n\ttools: [Read, Grep]"], ids=["list", "all"]
)
def test_tabs_are_read_as_spaces(yaml: str) -> None:
    """Indentation by tabs loads, with a warning that names the first line."""
    document = front(yaml)
    assert document.meta["tools"] == ["Read", "Grep"]
    assert "tabs" in document.warnings[0]


@pytest.mark.parametrize(
    ("yaml", "warning"),
    [
        pytest.param("description: Use C # and F", "line 2: YAML takes the ' #' in 'description'", id="in a text"),
        pytest.param("a: b\ncolor: #ff0000", "line 3: YAML takes the ' #' in 'color'", id="a colour"),
        pytest.param("name: a\nname: b", "line 3: the key 'name' stands there again", id="a key twice"),
        pytest.param("hooks:\n  a: 1\n  a: 2", "line 4: the key 'a' stands there again", id="a deeper key twice"),
        pytest.param("name: a\u0080b", "line 2: the front matter holds control characters", id="wrong encoding"),
    ],
)
def test_warns_of_what_yaml_drops_in_silence(yaml: str, warning: str) -> None:
    """Text after ' #', the first of two equal keys, and characters that cannot be are never lost without a word."""
    (found,) = front(yaml).warnings
    assert found.startswith(warning)


def test_the_last_of_two_equal_keys_counts() -> None:
    """As in every YAML reader that accepts them."""
    assert front("name: a\nname: b").meta == {"name": "b"}


# ------------------------------------------------------------ hostile files

BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
)


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        pytest.param(BOMB, "'&a' is a YAML anchor", id="alias bomb"),
        pytest.param("a: &a [*a]", "'&a' is a YAML anchor", id="a value that holds itself"),
        pytest.param(f"b: c: d\n{BOMB}", "'&a' is a YAML anchor", id="bomb behind a fault"),
        pytest.param("[" * 60_000, "levels deep", id="open brackets"),
        pytest.param("- " * 30_000, "levels deep", id="dashes"),
        pytest.param("? " * 30_000, "levels deep", id="question marks"),
        pytest.param("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "levels deep", id="closed brackets"),
    ],
)
def test_hostile_yaml_is_refused(yaml: str, words: str) -> None:
    """Nothing that a file holds can eat the memory, overflow the stack or run a program."""
    with pytest.raises(FrontMatterError, match=words):
        front(yaml)


def test_a_python_object_is_text() -> None:
    """A tag that other readers obey makes nothing here."""
    document = front("a: !!python/object/apply:os.system ['true']")
    assert document.meta == {"a": "!!python/object/apply:os.system ['true']"}


# ------------------------------------------------------------ laws

PIECES = st.sampled_from(
    [
        *(
            "---",
            "\n",
            "\n",
            "name",
            "description",
            ": ",
            ":",
            " #",
            "|",
            ">",
            "- ",
            "[",
            "]",
            "{",
            "}",
            "&a",
            "*a",
            '"',
        ),
        *(
            "!!int ",
            "!!binary ",
            "!!timestamp ",
            "!!set ",
            "'",
            "\\",
            "\t",
            "  ",
            "<<",
            "? ",
            "%",
            "...",
            "\u2028",
            "\x85",
        ),
        *("é", "1", "x", "=", "0x", ".nan", "2024-01-99", "\ufeff"),
    ]
)


@given(st.one_of(st.binary(max_size=300), st.lists(PIECES, max_size=40).map(lambda pieces: "".join(pieces).encode())))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    """Whatever lies in a file, the reader returns a document or raises its own error."""
    for whole in (data, b"---\n" + data + b"\n---\nBody."):
        with contextlib.suppress(FrontMatterError):
            assert all(isinstance(key, str) for key in read(whole).meta)


# All that YAML may hold as it is, on one line.
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="\ufeff\ufffe\uffff")
)
LINES = st.lists(TEXT.filter(lambda line: not line.startswith("---")), max_size=5).map("\n".join)


@given(name=TEXT, description=TEXT, body=LINES)
def test_a_well_formed_file_keeps_name_description_and_body(name: str, description: str, body: str) -> None:
    """What was written is what is read, in every script, without a warning."""
    quoted = [value.replace("'", "''") for value in (name, description)]
    document = read("---\nname: '{}'\ndescription: '{}'\n---\n".format(*quoted) + body)
    assert Document(
        meta={"name": name, "description": description}, body=body, has_front_matter=True, warnings=()
    ) == said(document)


@example(": a")
@example("a: 'b")
@example("[a] # b: c")
@settings(max_examples=200)
@given(TEXT.map(str.strip).filter(lambda text: text and text[0] not in "|>\"'&"))
def test_a_line_of_prose_is_never_lost_in_silence(text: str) -> None:
    """A description without quotes is read letter by letter, or there is a warning, or YAML means something by it."""
    try:
        document = front(f"name: a\ndescription: {text}\nmodel: opus")
    except FrontMatterError:
        return
    value = document.meta["description"]
    is_meant = not isinstance(value, str) or text[0] in "#!"
    assert value == text or document.warnings or is_meant
    assert (document.meta["name"], document.meta["model"]) == ("a", "opus")


WORD = st.from_regex(r"[A-Za-z][A-Za-z0-9.,;/()'\"+=?!-]{0,8}", fullmatch=True)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True)
PAIRS = st.lists(st.tuples(NAMES, st.lists(WORD, min_size=1, max_size=5).map(" ".join)), min_size=1, max_size=4)


@given(PAIRS)
def test_plain_lines_are_read_as_yaml_reads_them(pairs: list[tuple[str, str]]) -> None:
    """The short way round the YAML parser gives what the parser gives, or is not taken."""
    lines = [f"{key}: {value}" for key, value in pairs]
    plain = _plain_mapping(_Front(lines, 2))
    if plain is not None:
        assert plain == yaml.load("\n".join(lines), yaml.SafeLoader)


@pytest.mark.parametrize(
    "line", ["a: yes", "a: null", "no: b", "a: 12", "a: b: c", "a: b #c", "a: [b]", "a:", "- a", "a: 'b'"]
)
def test_what_yaml_takes_for_more_than_text_is_left_to_it(line: str) -> None:
    """Truth values, numbers, lists, quotes, comments and what is broken go through the parser."""
    assert _plain_mapping(_Front([line], 2)) is None
    assert _plain_mapping(_Front(["a: b", "a: c"], 2)) is None
