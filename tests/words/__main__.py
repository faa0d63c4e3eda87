"""Check the words of documentation, docstrings, comments and messages with Vale.

    python tests/words [PATH...]

Without a path it checks what paths.txt names. Each line of output is `file:line:column: rule: message`,
and the exit status is 1 if there is any.

Vale reads text, so each file is copied to a temporary folder in which only its prose is left, at the same
lines and columns: Vale's positions are then those of the file.
"""

from __future__ import annotations

import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Iterator, Sequence

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "tests/integration")]

import built

# A variable says what it holds.
REFUSED_NAMES = {"one", "ones"}
# f-strings are a token of their own since Python 3.12.
STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
CODE = re.compile(r"``.+?``|`[^`]+`", re.DOTALL)
PLACEHOLDER = re.compile(r"\{[^{}\n]*\}")


def main(words: Sequence[str]) -> int:
    """Print each finding, and return 1 if there is any."""
    files = list(_files(words))
    with tempfile.TemporaryDirectory(prefix="words-") as name:
        folder = pathlib.Path(name)
        for file in files:
            # Vale chooses the format by the name; Markdown is left as it is.
            suffix = "" if file.suffix == ".md" else ".txt"
            copy = folder / f"{file.relative_to(ROOT)}{suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(prose(file))
        findings = [*_names(files), *_vale(folder)]
    for finding in sorted(findings):
        print("{}:{}:{}: {}: {}".format(*finding))
    print(f"{len(findings)} findings in {len(files)} files")
    return 1 if findings else 0


def prose(file: pathlib.Path) -> str:
    """Return the text of a file with all but its prose replaced by spaces."""
    text = file.read_text()
    if file.suffix == ".md":
        return text
    if file.suffix == ".py":
        text = _python(text)
    elif file.name == "Makefile" or file.suffix in {".ini", ".toml"}:
        text = re.sub(r"^[^#\n]+", _blank, text, flags=re.MULTILINE)
    return CODE.sub(_blank, text)


def _python(source: str) -> str:
    """Return comments, docstrings, and strings that have a space, at their lines and columns."""
    lines = [[" "] * len(line) for line in source.splitlines()]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string
        if token.type in STRINGS and " " in text.strip():
            text = PLACEHOLDER.sub(_blank, text)
        elif token.type != tokenize.COMMENT:
            continue
        (row, column), parts = token.start, text.split("\n")
        for number, part in enumerate(parts, row - 1):
            lines[number][column : column + len(part)] = part
            column = 0
    return "\n".join("".join(line).rstrip() for line in lines)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _names(files: Sequence[pathlib.Path]) -> Iterator[tuple[str, int, int, str, str]]:
    """Yield the names in Python files that do not say what they hold."""
    for file in files:
        if file.suffix != ".py":
            continue
        for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
            if token.type == tokenize.NAME and token.string in REFUSED_NAMES:
                (row, column), name = token.start, str(file.relative_to(ROOT))
                yield name, row, column + 1, "House.Names", f"'{token.string}': name what it is"


def _vale(folder: pathlib.Path) -> Iterator[tuple[str, int, int, str, str]]:
    vale = built.cached("vale", lambda line: print(line, file=sys.stderr))
    done = subprocess.run(
        [vale, f"--config={ROOT / '.vale.ini'}", "--output=JSON", "--no-global", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in {0, 1}:
        sys.exit(f"vale failed: {done.stderr or done.stdout}")
    for name, alerts in json.loads(done.stdout).items():
        for alert in alerts:
            column = alert["Span"][0]
            yield (
                name.removesuffix(".txt"),
                alert["Line"],
                column,
                alert["Check"],
                alert["Message"],
            )


def _files(words: Sequence[str]) -> Iterator[pathlib.Path]:
    """Yield the files below the given paths, or those that paths.txt names."""
    listed = (HERE / "paths.txt").read_text().splitlines()
    patterns = [line for line in listed if line and not line.startswith("#")]
    given = [pathlib.Path(word).resolve() for word in words]
    for path in given or sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if _readable(file))
        else:
            yield path


def _readable(file: pathlib.Path) -> bool:
    return file.is_file() and file.suffix in {
        ".py",
        ".md",
        ".yaml",
        ".j2",
        ".toml",
        ".ini",
        ".in",
        ".sh",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
