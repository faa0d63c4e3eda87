"""Turn the shell blocks of a page into a script, and compare what it prints with what the page shows.

- A block ```` ```shell ```` is run. All blocks of a page are run in order, in a single bash.
- A block ```` ```shell juju ```` is not run: the word is a key of NOT_RUN, which says why.
- A line whose comment begins with `refused` or `exit code 1` has to fail. Every other command has to succeed.
- A block ```` ```text ```` right below a shell block shows its output. The lines have to appear in this order, and
  other lines may stand between them. Numbers and widths may differ, and `…` stands for anything.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

# Why a block is not run, by the word that marks it.
NOT_RUN = {
    "juju": "needs a model of Juju on Kubernetes",
    "container": "runs in a container of Juju's unit",
    "docker": "needs Docker",
    "systemd": "needs a systemd that runs services of the user",
    "tests": "runs the tests of this repository, or builds something with them",
    "terminal": "needs a terminal with a reader",
    "elsewhere": "needs a server or an application that only the reader has",
}

FENCE = re.compile(r"^( *)```(\w*) ?(.*)$")
FAILS = re.compile(r"^( *)(\S.*?) +# (?:refused|exit code [1-9])\b.*$")
# What may differ between the page and a run.
VARIES = re.compile(r"\d+(?:\.\d+)*|…|[ \t]+|[-─━]{3,}")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    # The rest of the line that opens the block.
    mark: str
    # The number of the first line of the text in the page.
    line: int
    lines: tuple[str, ...]
    # Whether nothing but empty lines stands between the block before and this block.
    follows: bool


def blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    opened: tuple[str, str, str, int] | None = None
    lines: list[str] = []
    follows = False
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened, lines = (fence[1], fence[2], fence[3].strip(), number + 1), []
        elif opened and line.strip() == "```":
            yield Block(opened[1], opened[2], opened[3], tuple(lines), follows)
            opened, follows = None, True
        elif opened:
            lines.append(line.removeprefix(opened[0]))
        elif line.strip():
            follows = False


class Run(NamedTuple):
    """A block that is run, and the lines that its page shows as its output."""

    block: Block
    shown: tuple[str, ...]


class Page(NamedTuple):
    """The shell blocks of a page."""

    name: str
    runs: tuple[Run, ...]
    not_run: tuple[Block, ...]


def page(path: pathlib.Path, name: str) -> Page:
    """Return the shell blocks of a page. Raises ValueError for a mark that NOT_RUN does not have."""
    runs: list[Run] = []
    not_run: list[Block] = []
    before: Block | None = None
    for block in blocks(path.read_text()):
        if block.language == "shell" and block.mark:
            if block.mark not in NOT_RUN:
                raise ValueError(f"{name}:{block.line}: {block.mark!r} is none of {[*NOT_RUN]}")
            not_run.append(block)
        elif block.language == "shell":
            runs.append(Run(block, ()))
        elif block.language == "text" and block.follows and runs and before is runs[-1].block:
            runs[-1] = runs[-1]._replace(shown=block.lines)
        before = block
    return Page(name, tuple(runs), tuple(not_run))


def script(page: Page, output: str) -> str:
    """Return a bash script with the blocks of a page, each at the lines that it has in the page.

    The output of a block goes to a file in the directory `output`, named by the block's first line. The
    script ends at the first command that fails, and then `failed` has the line of the page.
    """
    lines = [
        "set -eE; trap "
        f"'echo \"{page.name}:$LINENO: $BASH_COMMAND: exit code $?\" >{output}/failed' ERR"
    ]
    for block, _ in page.runs:
        # The line of the fence sends the output of the block to its file.
        lines += [""] * (block.line - 2 - len(lines))
        redirect = f"exec >'{output}/{block.line}' 2>&1"
        if block.line == 2:
            lines[0] += f"; {redirect}"
        else:
            lines.append(redirect)
        lines += [_expected(line) for line in block.lines]
    return "\n".join([*lines, "wait", ""])


def _expected(line: str) -> str:
    """Return the line; if the page says that it fails, a line that fails unless the command fails."""
    found = FAILS.match(line)
    if not found:
        return line
    return f"{found[1]}if {found[2]}; then echo 'this command did not fail'; false; fi"


def missing(run: Run, output: str) -> str | None:
    """Return the first line that a page shows and that the output does not have at its place."""
    printed = iter([line.strip() for line in output.splitlines()])
    for shown in run.shown:
        if shown.strip() in {"", "…"}:
            continue
        pattern = re.compile(_pattern(shown.strip()))
        if not any(pattern.fullmatch(line) for line in printed):
            return shown
    return None


def _pattern(line: str) -> str:
    """Return a regular expression for the lines that look like this line."""
    parts: list[str] = []
    end = 0
    for found in VARIES.finditer(line):
        parts.append(re.escape(line[end : found.start()]))
        text = found[0]
        if text == "…":
            parts.append(".*")
        elif text[0].isdigit():
            parts.append(r"\d+(?:\.\d+)*")
        elif text.isspace():
            parts.append(r"\s+")
        else:
            parts.append(r"[-─━]+")
        end = found.end()
    return "".join([*parts, re.escape(line[end:])])
