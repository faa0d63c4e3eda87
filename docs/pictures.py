"""Draw the pictures of `pooler status`, `pooler top` and `pooler doctor` in docs/pictures.

    python docs/pictures.py             draw each picture again from its data
    python docs/pictures.py --record    first get the data from a pooler that runs, which takes a minute

The data of a picture is what the command prints with `--json`, so a picture shows what the command draws.
"""

from __future__ import annotations

import io
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
sys.path.insert(0, str(ROOT / "src"))

from rich.console import Console, Group, RenderableType

from pooler.screen import Size
from pooler.views import drawing
from pooler.views.checks import Doctor
from pooler.views.status import StatusView
from pooler.views.top import SAMPLES, TopView

TERMINAL = Size(80, 24)

COMMANDS = {
    "status": ("status", "--json"),
    "top": ("top", "--json"),
    "doctor": ("doctor", "--json"),
}

# A terminal as rich draws it, without fonts from the network.
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: "Fira Code", "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> int:
    """Draw all pictures, with `--record` after recording their data."""
    for name, words in COMMANDS.items():
        if "--record" in sys.argv[1:]:
            (PICTURES / f"{name}.json").write_text(recorded(words))
        (PICTURES / f"{name}.svg").write_text(picture(name))
    return 0


def picture(name: str) -> str:
    """Return the picture of a command as SVG."""
    output = Console(
        record=True,
        width=TERMINAL.columns,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
        markup=False,
        highlight=False,
    )
    output.print(Group(*parts(name)))
    svg = output.export_svg(title=f"pooler {name}", code_format=FORMAT, unique_id=f"pooler-{name}")
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def parts(name: str) -> list[RenderableType]:
    """Return what the command draws."""
    data = (PICTURES / f"{name}.json").read_text()
    match name:
        case "status":
            return drawing.status(StatusView.model_validate_json(data))
        case "top":
            return drawing.top(TopView.model_validate_json(data), TERMINAL, each=False)
        case _:
            return drawing.doctor(Doctor.model_validate_json(data))


def recorded(words: tuple[str, ...]) -> str:
    """Return the JSON that the command prints; of `top`, after a minute."""
    with subprocess.Popen([ROOT / "pooler", *words], stdout=subprocess.PIPE, text=True) as command:
        lines = iter(command.stdout or ())
        if words[0] != "top":
            return "".join(lines)
        last = [next(lines) for _ in range(SAMPLES)][-1]
        command.terminate()
        return json.dumps(json.loads(last), indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
