"""How does PgBouncer read its files? Written from its documentation and its parsers, and not from ours.

https://www.pgbouncer.org/config.html; lib/usual/cfparser.c, src/loader.c.
"""

import re

_KEY = re.compile(r"[A-Za-z0-9_.*-]+")
_BLANK = " \t\r\v\f"


def ini(text):
    """Sections of keys and values, each line as it comes."""
    sections, section = {}, None
    for line in (one.strip(_BLANK) for one in text.split("\n")):
        if not line or line[0] in ";#":
            continue
        if line[0] == "[":
            assert line.endswith("]"), line
            section = sections.setdefault(line[1:-1], {})
            continue
        assert line[0] != "%", "a directive"
        key = _KEY.match(line)
        assert key, line
        rest = line[key.end() :].lstrip(_BLANK)
        assert rest.startswith("="), line
        assert key[0] not in section, f"{key[0]} twice"
        section[key[0]] = rest[1:].strip(_BLANK)
    return sections


def pairs(text):
    """The keys and values of a connection string."""
    found, at = {}, 0
    while at < len(text):
        if text[at] in _BLANK:
            at += 1
            continue
        key = re.compile(r"([A-Za-z0-9_]+)[ \t]*=[ \t]*").match(text, at)
        assert key, text[at:]
        value, at = _value(text, key.end())
        assert key[1] not in found, f"{key[1]} twice"
        found[key[1]] = value
    return found


def _value(text, at):
    """A value, bare or in single quotes in which they are doubled, and where it ends."""
    if text[at : at + 1] != "'":
        end = next((i for i in range(at, len(text)) if text[i] in _BLANK), len(text))
        return text[at:end], end
    value, at = "", at + 1
    while True:
        end = text.index("'", at)
        value += text[at:end]
        if text[end + 1 : end + 2] != "'":
            return value, end + 1
        value, at = value + "'", end + 2


def userlist(text):
    """Names and secrets, each pair in double quotes in which they are doubled."""
    found = {}
    for line in text.split("\n"):
        if not line.strip(_BLANK) or line.lstrip(_BLANK)[0] == ";":
            continue
        name, at = _doubled(line, 0)
        secret, at = _doubled(line, at)
        assert not line[at:].strip(_BLANK), line
        assert name not in found, f"{name} twice"
        found[name] = secret
    return found


def _doubled(line, at):
    while line[at] in _BLANK:
        at += 1
    assert line[at] == '"', line
    text, at = "", at + 1
    while True:
        end = line.index('"', at)
        text += line[at:end]
        if line[end + 1 : end + 2] != '"':
            return text, end + 1
        text, at = text + '"', end + 2
