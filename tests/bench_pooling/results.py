"""What was found, and is it enough?"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

from pgbench import Run

OURS, HAND, PLAIN, DIRECT = "ours", "by hand", "by hand, no reset", "no pooler"
SESSION, TRANSACTION = "session mode", "transaction mode"
ALWAYS = "transaction mode, server_reset_query_always=true"

BAR = 0.98  #: of the throughput of a configuration by hand that has the same meaning
CLOSE = 0.90  #: and one budget is as good on other numbers of units, nearly
SURE = 0.01  #: a coin that falls like this so rarely is no coin


@dataclasses.dataclass(frozen=True)
class Ratio:
    """One compared with another, round by round."""

    rounds: tuple[float, ...]
    bar: float | None = None  #: None where it is shown, and not judged

    @property
    def median(self) -> float:
        """Half of the rounds are below."""
        return statistics.median(self.rounds)

    @property
    def missed(self) -> bool:
        """Below the bar, and in so many rounds that it is no accident (a sign test)."""
        if self.bar is None or self.median >= self.bar:
            return False
        count, below = len(self.rounds), sum(one < self.bar for one in self.rounds)
        chance = sum(math.comb(count, k) for k in range(below, count + 1)) / 2**count
        return chance < SURE

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.bar is None:
            return ""
        if self.median >= self.bar:
            return "ok"
        return "TOO SLOW" if self.missed else "ok within noise"

    def __str__(self) -> str:
        return f"{self.median:.2f} ({min(self.rounds):.2f}..{max(self.rounds):.2f})"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One load, and those who took turns at it."""

    load: str
    mode: str
    runs: Mapping[str, Sequence[Run]]
    judged: bool = True  #: where the load is fixed, throughput says nothing

    def ratio(self, name: str) -> Ratio:
        """Throughput, as a multiple of that by hand."""
        pairs = zip(self.runs[name], self.runs[HAND], strict=True)
        bar = BAR if self.judged and name == OURS else None
        return Ratio(tuple(one.tps / other.tps for one, other in pairs), bar)

    def median(self, name: str, what: str) -> float:
        """Of all rounds."""
        return statistics.median(getattr(run, what) for run in self.runs[name])

    def rows(self) -> list[tuple[str, ...]]:
        """Of the table."""
        found: list[tuple[str, ...]] = []
        for name in self.runs:
            numbers = [f"{self.median(name, 'tps'):.0f}"]
            numbers += [f"{self.median(name, what):.2f}" for what in ("p50", "p99")]
            compared = "" if name == HAND or not self.judged else str(self.ratio(name))
            verdict = self.ratio(name).verdict
            found.append((f"{self.load}, {self.mode}", name, *numbers, compared, verdict))
        return found


@dataclasses.dataclass(frozen=True)
class Spread:
    """One budget on several numbers of units."""

    tps: Mapping[int, Sequence[float]]
    connections: Mapping[int, int]  #: to PostgreSQL, at most

    def ratio(self, count: int) -> Ratio:
        """Throughput of so many units, the slower by the faster of it and of one unit."""
        pairs = list(zip(self.tps[count], self.tps[1], strict=True))
        if statistics.median(one / other for one, other in pairs) > 1:
            pairs = [(other, one) for one, other in pairs]
        return Ratio(tuple(one / other for one, other in pairs), CLOSE)

    def rows(self) -> list[tuple[str, ...]]:
        """Of the table."""
        return [
            (
                f"{count} unit{'s' if count > 1 else ''}",
                f"{statistics.median(self.tps[count]):.0f}",
                str(self.connections[count]),
                "" if count == 1 else str(self.ratio(count)),
                "" if count == 1 else self.ratio(count).verdict,
            )
            for count in self.tps
        ]


LOADS_HEAD = ("load", "who", "tps", "p50 ms", "p99 ms", "tps / by hand", "verdict")
SPREAD_HEAD = ("select-only on", "tps", "connections", "slower / faster, to 1 unit", "verdict")
