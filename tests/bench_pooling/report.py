"""How is it told? docs/benchmark.md, and the picture beside it."""

from __future__ import annotations

import datetime
import os
import pathlib
import platform
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
from pgbench import CLIENTS, SCALE, SELECT, UPDATE
from results import (
    ALWAYS,
    BAR,
    CLOSE,
    DIRECT,
    HAND,
    LOADS_HEAD,
    OURS,
    PLAIN,
    SESSION,
    SPREAD_HEAD,
    SURE,
    Comparison,
    Spread,
)
from rivals import BUDGET

mpl.use("svg")
mpl.rcParams |= {"svg.hashsalt": "benchmark", "font.size": 10, "axes.spines.top": False,
                 "axes.spines.right": False, "axes.edgecolor": "#666666"}  # fmt: skip

from matplotlib import pyplot as plt  # noqa: E402 — after the choice of how it draws

# Colours that differ for those who do not tell red from green, too (Okabe and Ito).
COLOURS = {OURS: "#0072b2", HAND: "#e69f00", PLAIN: "#999999", DIRECT: "#444444"}


def write(
    docs: pathlib.Path,
    found: Sequence[Comparison],
    spread: Spread,
    rounds: int,
    seconds: int,
    versions: str,
) -> None:
    """Page and picture."""
    page = pathlib.Path(__file__).with_name("page.md").read_text().format(
        budget=BUDGET, rounds=rounds, bar=BAR, sure=SURE, close=1 - CLOSE, clients=CLIENTS, scale=SCALE,
        loads=_table(LOADS_HEAD, [row for one in found for row in one.rows()]),
        spread=_table(SPREAD_HEAD, spread.rows()),
        reset=_reset({(one.load, one.mode): one for one in found}),
        machine=_machine(), versions=versions, date=datetime.datetime.now(tz=datetime.UTC).date(),
        turns=f"{seconds} second{'s' if seconds > 1 else ''}",
    )  # fmt: skip
    (docs / "benchmark.md").write_text(page)
    _plot(docs / "benchmark.svg", found)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _reset(found: Mapping[tuple[str, str], Comparison]) -> str:
    """In numbers, from those by hand, which differ in nothing else."""
    lines = []
    for load in (SELECT, UPDATE):
        without = found[load, ALWAYS].ratio(PLAIN)
        lines.append((load, f"{1 / without.median:.2f} of the throughput without it"))
    return _table(("load", "with server_reset_query_always=true"), lines)


def _machine() -> str:
    cpus = pathlib.Path("/proc/cpuinfo")
    named = re.search(
        r"^model name\s*:\s*(.+)$", cpus.read_text() if cpus.exists() else "", re.MULTILINE
    )
    name = named[1] if named else platform.machine()
    return f"{len(os.sched_getaffinity(0))} processors ({name}), {platform.system()} {platform.release()}"


def _plot(file: pathlib.Path, found: Sequence[Comparison]) -> None:
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, 5), facecolor="white", width_ratios=(4, 5)
    )
    width = 0.2
    for place, one in enumerate(one for one in found if one.judged):
        for turn, name in enumerate(one.runs):
            ratio, x = one.ratio(name), place + (turn - (len(one.runs) - 1) / 2) * width
            left.bar(x, ratio.median, width * 0.92, color=COLOURS[name])
            left.vlines(x, min(ratio.rounds), max(ratio.rounds), color="black", linewidth=1)
            top = max(ratio.median, *ratio.rounds)
            if name != HAND:
                left.text(x, top + 0.03, f"{ratio.median:.2f}", ha="center", fontsize=8)
    left.axhline(1, color=COLOURS[HAND], linewidth=1, zorder=0)
    left.set_title("Throughput, as a multiple of the one by hand", loc="left", fontsize=11)
    _name(left, [one for one in found if one.judged])
    for place, one in enumerate(found):
        for turn, name in enumerate(one.runs):
            x = place + (turn - (len(one.runs) - 1) / 2) * width
            p50, p99 = one.median(name, "p50"), one.median(name, "p99")
            right.vlines(x, p50, p99, color=COLOURS[name], linewidth=2)
            right.plot(x, p50, "o", color=COLOURS[name], markersize=7)
            right.plot(x, p99, "_", color=COLOURS[name], markersize=9, markeredgewidth=2)
    right.set_yscale("log")
    right.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    right.grid(axis="y", color="#dddddd", linewidth=0.8)
    right.set_axisbelow(True)
    right.set_title(
        "Latency in ms: of half of the transactions (dot), and of 99 % (bar)",
        loc="left",
        fontsize=11,
    )
    _name(right, found)
    handles = [mpl.patches.Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1), w_pad=3)
    figure.savefig(file, metadata={"Date": None})


def _name(axes: plt.Axes, found: Sequence[Comparison]) -> None:
    names = [
        textwrap.fill(one.load, 15)
        + {SESSION: "\n(session mode)", ALWAYS: "\n(reset always)"}.get(one.mode, "")
        for one in found
    ]
    axes.set_xticks(range(len(found)), names, fontsize=9)
    axes.tick_params(axis="x", length=0)
