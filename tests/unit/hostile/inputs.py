"""What could a stranger write? Anything at all, what is nearly right, and far too much of it."""

import json

from hypothesis import strategies as st

BRACKETS = 100_000
LARGE = 1_000_000

# Letters that end lines, quotes and numbers, that take no room or turn text round, and that are none.
ODD = (
    "", " ", "\0", "\n", "a\nb", "\r[users]", "\x1b[2J", "\x7f", "'", "''", '"', "\\", "%s", "{}",
    "{{ 1 }}", "*", "=", ",", ":", ";", "a=b", "\ud800", "\udfff\ud800", "\ufeff", "\u202etxt",
    "\u2028", "\u0130", "\u00b2", "\u0663", "\U000e0001", "NaN", "-0", "1e999", "null", "true",
    "0x10", "1_000", "../..", "a..b", "[::1", "::", "[::1]:5432", "x" * 64, "é" * 63,
)  # fmt: skip
HUGE = (
    "9" * 5000,
    "x" * LARGE,
    "[" * BRACKETS,
    "[" * BRACKETS + "]" * BRACKETS,
    '{"a":' * BRACKETS,
    "[" + ":" * BRACKETS,
    "," * LARGE,
    '"' + "\\u0000" * BRACKETS + '"',
    "é\u202e" * BRACKETS,
)
# As JSON may have it where something else is expected, without quotes round it.
RAW = (
    "1" + "0" * 400, "9" * 5000, "-1", "0", "65536", "1e400", "NaN", "Infinity", "-0.0", "null",
    '"\\ud800"', '"\\u0000"', '"a\\nb"', '"5"', '"*"', "[]", "{}", "[[]]", '""',
    "[" * BRACKETS + "]" * BRACKETS, '{"a":' * BRACKETS + "1" + "}" * BRACKETS,
    '"' + "x" * LARGE + '"', "[" + "0," * BRACKETS + "0]",
)  # fmt: skip

TEXT = st.text(max_size=50) | st.sampled_from(ODD)
ANY_TEXT = TEXT | st.sampled_from(HUGE)
NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,63}", fullmatch=True)
LINES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\x7f"]),
    min_size=1,
    max_size=63,
).filter(lambda text: text == text.strip(" "))

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from((10**400, -(10**400), 2**31, -1))
    | st.floats()
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
JSON_TEXT = JSON.map(json.dumps) | st.sampled_from(RAW)

_MARK = "here"


def _paths(data, here=()):
    yield here
    if isinstance(data, (dict, list)):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _paths(value, (*here, key))


def _with(data, path, value):
    """A copy of the data with another value there."""
    if not path:
        return value
    copy = data.copy()
    copy[path[0]] = _with(data[path[0]], path[1:], value)
    return copy


def _at(data, path):
    for key in path:
        data = data[key]
    return data


@st.composite
def damaged(draw, *wholes):
    """The JSON text of one of these, with one thing wrong with it, or only just not."""
    data = draw(st.sampled_from(wholes))
    if draw(st.integers(0, 4)) == 0:
        text = json.dumps(data)
        return text[: draw(st.integers(0, len(text)))]
    path = draw(st.sampled_from(sorted(_paths(data), key=repr)))
    new = draw(JSON_TEXT)
    if path and isinstance(path[-1], str) and draw(st.booleans()):
        # The same name once more, or an unknown one.
        name = draw(st.sampled_from((path[-1], "unknown")))
        new = f"{json.dumps(_at(data, path))},{json.dumps(name)}:{new}"
    return json.dumps(_with(data, path, _MARK)).replace(json.dumps(_MARK), new)


def a_sentence(text):
    """Whether an operator can read it in a status: one line, that shows, not too long."""
    return bool(text) and text.isprintable() and len(text) < 1000


def outcome(act, *refusals):
    """What comes of it: a value, or the sentence with which it is refused."""
    try:
        return act(), ""
    except refusals as refusal:
        sentence = str(refusal)
    assert a_sentence(sentence)
    assert "the-password" not in sentence
    return None, sentence
