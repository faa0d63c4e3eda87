"""Draw a picture of each row of the dashboard in docs/pictures.

    python docs/dashboard_pictures.py           run for five minutes, and draw; needs Chromium
    python docs/dashboard_pictures.py --again   draw the data of the last run again

The pictures show real data: three units with two PgBouncer processes each, their exporters and Prometheus run
for four minutes. Meanwhile load grows, a database is paused, a process is killed, and PostgreSQL restarts.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
sys.path[:0] = [str(ROOT / name) for name in ("src", "tests", "tests/integration")]

import psycopg
from grafana_drawing import WIDTH, Data, Json, Line, Series, page
from observed import APPLICATION, Observed, Place, expanded
from small_png import smaller

from domain.dashboard import dashboard

CHROMIUM = "/usr/bin/chromium"
PLACES = tuple(Place(unit, process) for unit in range(3) for process in range(2))
# The interval of scrapes, the range of a rate, and the distance of the points of a graph, in seconds.
SCRAPE, RATE, STEP = 2, 12, 3
# The data of the last run.
RECORD = ROOT / "build" / "dashboard.json"


def main() -> int:
    """Run the processes and draw all rows, with `--again` from the data of the run before."""
    if "--again" not in sys.argv[1:]:
        with Observed(PLACES, SCRAPE) as observed:
            began = time.time()
            with observed.load(clients=1, pause=0.15, hold=0.03):
                story(observed)
                with observed.load(clients=4, pause=0.02, hold=0.1):
                    time.sleep(20)
                    found = Asked(observed, began + RATE).all()
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(found))
    draw(json.loads(RECORD.read_text()))
    return 0


def story(observed: Observed) -> None:
    """Do to the processes what happens to pools, in four minutes."""
    time.sleep(45)
    with observed.load(clients=5, pause=0.05, hold=0.06), cancels(observed):
        time.sleep(30)
        for place in PLACES[:2]:
            observed.console(place, "PAUSE billing")
        time.sleep(12)
        for place in PLACES[:2]:
            observed.console(place, "RESUME billing")
        time.sleep(18)
    with observed.load(clients=2, pause=0.1, hold=0.04, think=0.02):
        observed.kill(PLACES[3])
        time.sleep(14)
        observed.start_again(PLACES[3])
        time.sleep(26)
        observed.server.stop()
        time.sleep(6)
        observed.server.start()
        with contextlib.suppress(psycopg.Error):
            observed.connect(PLACES[4], "no_such_database", "web")
        time.sleep(35)
    time.sleep(20)


@contextlib.contextmanager
def cancels(observed: Observed) -> Iterator[None]:
    """Let a client cancel its query now and then."""
    ending = threading.Event()

    def run() -> None:
        while not ending.is_set():
            with contextlib.suppress(psycopg.Error), observed.connect(PLACES[2], "shop") as client:
                timer = threading.Timer(0.3, client.cancel)
                timer.start()
                client.execute("SELECT pg_sleep(2)")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    ending.set()
    thread.join(10)


def draw(found: Json) -> None:
    """Write the picture of each row, from the data of each panel by its title."""
    for number, (row, panels) in enumerate(rows_of_the_dashboard()):
        html, height = page(
            row, panels, lambda panel: loaded(found[panel["title"]]), HEAD * (number == 0)
        )
        name = re.sub(r"[^a-z]+", "-", row["title"].lower()).strip("-")
        photograph(html, height, PICTURES / f"dashboard-{name}.png")


def rows_of_the_dashboard() -> list[tuple[Json, list[Json]]]:
    """Return each row with its panels, as Grafana reads them."""
    rows: list[tuple[Json, list[Json]]] = []
    for panel in json.loads(json.dumps(dashboard()))["panels"]:
        if panel["type"] == "row":
            rows.append((panel, []))
        else:
            rows[-1][1].append(panel)
    return rows


HEAD = "".join(
    f"<span>{label} <b>{value}</b> ▾</span>"
    for label, value in (
        ("Juju model", "All"),
        ("Juju application", APPLICATION),
        ("Juju unit", "All"),
        ("Process", "All"),
    )
)


def loaded(stored: Any) -> Data:  # noqa: ANN401 - JSON of any shape
    """Return the data of a panel from what was stored as JSON."""
    series, lines, *rest = stored
    return Data(
        [
            [
                Series(name, labels, {float(at): value for at, value in values.items()})
                for name, labels, values in found
            ]
            for found in series
        ],
        [Line(*line) for line in lines],
        *rest,
    )


class Asked:
    """The data of panels, from Prometheus and from the logs of the processes."""

    def __init__(self, observed: Observed, began: float) -> None:
        self._observed = observed
        self._end = time.time()
        self._start = began

    def all(self) -> dict[str, Data]:
        """Return the data of all panels, by their titles."""
        return {
            panel["title"]: self.data(panel)
            for _, panels in rows_of_the_dashboard()
            for panel in panels
        }

    def data(self, panel: Json) -> Data:
        """Return what the queries of a panel find."""
        if panel["datasource"]["type"] == "loki":
            found: list[list[Series]] = []
            lines = self._lines(panel["targets"][0]["expr"])
            if panel["type"] == "timeseries":
                found = [self._counted(lines)]
            text = [Line(moment, f"[{unit}] {line}") for moment, unit, line in lines]
            return Data(found, text, self._start, self._end, STEP)
        found = [self._series(panel["title"], target) for target in panel["targets"]]
        return Data(found, [], self._start, self._end, STEP)

    def _series(self, title: str, target: Json) -> list[Series]:
        expression = expanded(target["expr"], {}, f"{RATE}s")
        if target["instant"]:
            answer = self._observed.query(expression)
        else:
            answer = self._observed.query_range(expression, self._start, self._end, STEP)
        if not answer.series:
            raise ValueError(f"{title}: {answer.error or 'no data'}: {expression}")
        return [
            Series(
                _named(target["legendFormat"], each["metric"]),
                each["metric"],
                {at: float(value) for at, value in each.get("values") or [each["value"]]},
            )
            for each in answer.series
        ]

    def _lines(self, expression: str) -> list[tuple[float, str, str]]:
        """Return moment, unit and text of the lines that contain what the expression filters."""
        contain = re.search(r"\|~ `(.*?)`", expression)
        found = []
        for place in PLACES:
            for line in self._observed.log(place).splitlines():
                stamp, _, rest = line.partition(" UTC ")
                if rest and (contain is None or re.search(contain[1], rest)):
                    moment = datetime.fromisoformat(f"{stamp}+00:00").timestamp()
                    if moment >= self._start:
                        found.append((moment, f"{APPLICATION}/{place.unit}", rest))
        return found

    def _counted(self, lines: list[tuple[float, str, str]]) -> list[Series]:
        """Return the lines of each unit in the minute before each moment."""
        moments = [
            self._start + n * STEP for n in range(int((self._end - self._start) / STEP) + 1)
        ]
        series = []
        for unit in sorted({unit for _, unit, _ in lines}):
            counts = Counter(
                moment
                for moment in moments
                for at, of, _ in lines
                if of == unit and moment - 60 < at <= moment
            )
            values = {moment: float(count) for moment, count in counts.items()}
            series.append(Series(unit, {}, values))
        return series


def _named(name: str, labels: Json) -> str:
    """Return the name of a series, with the values of its labels."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), name)


def photograph(html: str, height: int, picture: pathlib.Path) -> None:
    """Let Chromium show the HTML, and write what it shows as PNG."""
    with tempfile.TemporaryDirectory() as directory:
        source = pathlib.Path(directory, "row.html")
        source.write_text(html)
        subprocess.run(
            [
                CHROMIUM,
                *(
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--hide-scrollbars",
                    "--disable-lcd-text",
                ),
                f"--user-data-dir={directory}/profile",
                f"--window-size={WIDTH},{height}",
                f"--screenshot={directory}/row.png",
                source.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        picture.write_bytes(smaller(pathlib.Path(directory, "row.png").read_bytes()))


if __name__ == "__main__":
    sys.exit(main())
