"""What an alert is about: the command `pooler` with real processes, exporters, PostgreSQL and Prometheus."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
from folders import new_folder
from platform_under_test import Pooler
from ports import free_port
from postgresql import PASSWORD, PostgreSQL

from domain.alerts import as_groups, metric_rules, recording_rules, stopped_rules
from domain.operations import Pause
from domain.plan import Plan
from domain.rules import duration
from domain.settings import Settings, settings_from
from pooler import binaries
from pooler.store import Store

MODEL, MODEL_UUID, APPLICATION = "test", "0f1f6c1e-1c2f-4d0d-9a53-2c6c3a2b7a11", "pgbouncer-k8s"
OPTIONS = {"max_db_connections": 12, "pool_mode": "session"}
SCRAPE_SECONDS = 1
# An alert waits for a fortieth of its time, and for 6 s at most. Ranges of expressions get as short.
SHORTER, MOST_FOR, MOST_RANGE = 40, 6, 30


def shortened(seconds: int, most: int) -> int:
    """Return a time of a rule as the tests have it."""
    return min(most, max(2, seconds // SHORTER)) if seconds else 0


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def shorter_rules(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return groups of rules whose times and ranges are shorter, and that are else as we ship them."""
    for group in groups:
        for rule in group["rules"]:
            rule["expr"] = re.sub(
                r"\[(\d+[smh])\]",
                lambda found: f"[{duration(shortened(_seconds(found[1]), MOST_RANGE))}]",
                rule["expr"],
            )
            if "for" in rule:
                rule["for"] = duration(shortened(_seconds(rule["for"]), MOST_FOR))
    return groups


# An operator has paused all databases and disabled a database.
STOPPED = Plan(
    settings=Settings(), members=(), databases=("shop",), paused=(Pause(),), disabled=("shop",)
)


def rules_for(options: Mapping[str, object], plan: Plan | None = None) -> list[dict[str, Any]]:
    """Return all groups of rules on metrics that these options and this plan give."""
    settings, problems = settings_from(options)
    assert settings, problems
    return as_groups((*metric_rules(settings, plan), *recording_rules(settings)))


def every_rule(options: Mapping[str, object]) -> list[dict[str, Any]]:
    """Return all groups of rules on metrics, also those on what an operator has stopped."""
    return [*rules_for(options), *as_groups(stopped_rules(STOPPED))]


def run_as(uid: int) -> dict[str, Any]:
    """Return how to start a process as a user, which only root has to say."""
    if os.geteuid() != 0:
        return {}
    return {"user": uid, "group": uid, "extra_groups": []}


class Process:
    """A PgBouncer process of `pooler`, and its exporter."""

    def __init__(self, unit: str, number: int, home: pathlib.Path, place: str) -> None:
        self.unit, self.number = unit, number
        auth = Store(home).load().model.auth
        assert auth
        self._admin, self._secret = auth.admin_user, auth.admin_password.get_secret_value()
        self.sockets = home / "run" / place / str(number)
        # `pooler` ends the exporters of its home that it did not start, and knows them by this path.
        self._pid_file = f"{home}/./run/{place}/{number}/pgbouncer.pid"
        self.log = home / "units" / place / str(number) / "pgbouncer.log"
        self.port = next(
            int(path.name.rpartition(".")[2])
            for path in self.sockets.glob(".s.PGSQL.*")
            if path.suffix != ".lock"
        )
        self.uid = pathlib.Path("/proc", str(self.pid)).stat().st_uid
        self.metrics = free_port()
        self._exporter: subprocess.Popen[Any] | None = None
        self._again: subprocess.Popen[Any] | None = None
        self._command, self._place = self._now()

    def _now(self) -> tuple[list[str], str]:
        place = pathlib.Path("/proc", str(self.pid))
        command = (place / "cmdline").read_bytes().rstrip(b"\0").decode().split("\0")
        return command, str((place / "cwd").readlink())

    @property
    def pid(self) -> int:
        return int((self.sockets / "pgbouncer.pid").read_text())

    def labels(self) -> dict[str, str]:
        """Return the labels that the target has in Prometheus."""
        topology = {
            "juju_model": MODEL,
            "juju_model_uuid": MODEL_UUID,
            "juju_application": APPLICATION,
            "juju_unit": self.unit,
        }
        return {
            **topology,
            "juju_charm": "pgbouncer-k8s",
            "process": str(self.number),
            "instance": "_".join(topology.values()),
        }

    def kill(self) -> None:
        """End PgBouncer; nothing starts it again."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        if self._again:
            self._again.wait(10)
        until(lambda: not pathlib.Path("/proc", str(pid), "exe").exists(), "PgBouncer has ended")

    def start(self) -> None:
        """Start PgBouncer as `pooler` started it."""
        (self.sockets / "pgbouncer.pid").unlink(missing_ok=True)
        output = self.log.parent / "restarted"
        with output.open("ab") as file:
            self._again = subprocess.Popen(
                [word for word in self._command if word != "-d"],
                cwd=self._place,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                **run_as(self.uid),
            )
        until((self.sockets / "pgbouncer.pid").exists, "PgBouncer runs again")

    def start_exporter(self, program: pathlib.Path) -> None:
        """Start an exporter as the charm does: by the Unix socket, without a password."""
        dsn = (
            f"host={self.sockets} port={self.port} user=pgbouncer dbname=pgbouncer sslmode=disable"
        )
        self._exporter = subprocess.Popen(
            [
                str(program),
                f"--pgBouncer.connectionString={dsn}",
                f"--pgBouncer.pid-file={self._pid_file}",
                f"--web.listen-address=127.0.0.1:{self.metrics}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **run_as(self.uid),
        )

    def stop_exporter(self) -> None:
        if self._exporter:
            self._exporter.kill()
            self._exporter.wait(10)
            self._exporter = None

    def console(self) -> psycopg.Connection[Any]:
        """Return a connection to the console."""
        return psycopg.connect(
            host=str(self.sockets),
            port=self.port,
            user=self._admin,
            password=self._secret,
            dbname="pgbouncer",
            autocommit=True,
            prepare_threshold=None,
            cursor_factory=psycopg.ClientCursor,
        )

    def tell(self, *commands: str) -> None:
        """Send commands to the console."""
        with contextlib.closing(self.console()) as console:
            for command in commands:
                console.execute(command.encode())

    def setting(self, name: str) -> str:
        """Return the value of a setting in force."""
        with contextlib.closing(self.console()) as console:
            return next(row[1] for row in console.execute("SHOW CONFIG") if row[0] == name)


class Platform:
    """A pooler with a unit, its processes, and the login of an application."""

    def __init__(self, program: pathlib.Path, server: PostgreSQL, unit: str) -> None:
        self.version = str(binaries.version_of(program))
        self.server = server
        self.options: dict[str, object] = dict(OPTIONS)
        self.pooler = Pooler(PGBOUNCER=str(program), PGPASSWORD=PASSWORD)
        backend = f"postgresql://operator@{server.endpoint}"
        options = (f"{name}={value}" for name, value in OPTIONS.items())
        try:
            self.pooler.up("--units", "1", "--backend", backend, *options)
            self.login = self.pooler.credentials("demo")
            home = self.pooler.home
            numbers = sorted(int(path.parent.name) for path in home.glob("run/0/*/pgbouncer.pid"))
            self.processes = [Process(unit, number, home, "0") for number in numbers]
        except BaseException:
            self.close()
            raise

    @property
    def first(self) -> Process:
        return self.processes[0]

    def client(self, **how: Any) -> psycopg.Connection[Any]:
        """Return a client of the first process."""
        return psycopg.connect(
            **{
                "host": str(self.first.sockets),
                "port": self.first.port,
                "user": self.login["username"],
                "password": self.login["password"],
                "dbname": self.login["database"],
                "autocommit": True,
                "connect_timeout": 60,
                **how,
            }
        )

    def configure(self, **options: object) -> None:
        """Set options of the pooler."""
        self.options |= options
        self.pooler("config", *(f"{name}={value}" for name, value in options.items()))

    @property
    def plan(self) -> Plan | None:
        """Return the plan of the pooler, with what an operator has stopped."""
        return Store(self.pooler.home).load().model.plan

    def lines(self) -> list[str]:
        """Return every line that the first process has logged."""
        return self.first.log.read_text(errors="replace").splitlines()

    def close(self) -> None:
        for process in getattr(self, "processes", ()):
            process.stop_exporter()
            if process._again:
                process._again.kill()
                process._again.wait(10)
        self.pooler.close()


class Prometheus:
    """A Prometheus that scrapes processes, and evaluates rules every second."""

    def __init__(self, programs: pathlib.Path) -> None:
        self.promtool = programs / "promtool"
        self._program = programs / "prometheus"
        self._port = free_port()
        self.home = new_folder("alerts-")
        self._targets = self.home / "targets.json"
        self._rules = self.home / "rules.json"
        self._process: subprocess.Popen[Any] | None = None

    def start(self, processes: list[Process], groups: list[dict[str, Any]]) -> None:
        """Scrape these processes; it answers afterwards."""
        self.scrape(processes)
        self._rules.write_text(json.dumps({"groups": groups}))
        interval = f"{SCRAPE_SECONDS}s"
        settings = {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": [str(self._rules)],
            "scrape_configs": [
                {
                    "job_name": "pgbouncer",
                    "file_sd_configs": [
                        {"files": [str(self._targets)], "refresh_interval": interval}
                    ],
                }
            ],
        }
        (self.home / "prometheus.yml").write_text(json.dumps(settings))
        with (self.home / "output").open("ab") as file:
            self._process = subprocess.Popen(
                [
                    str(self._program),
                    f"--config.file={self.home / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.home / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self.home,
            )
        count = len(processes)
        until(lambda: len(self.query("pgbouncer_up == 1")) == count, "Prometheus has scraped all")

    def scrape(self, processes: list[Process]) -> None:
        """Let Prometheus scrape these processes, within a second."""
        targets = [
            {"targets": [f"127.0.0.1:{process.metrics}"], "labels": process.labels()}
            for process in processes
        ]
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps(targets))
        new.rename(self._targets)

    def load(self, groups: list[dict[str, Any]]) -> None:
        """Use these rules from now on."""
        self._rules.write_text(json.dumps({"groups": groups}))
        assert self._process
        self._process.send_signal(signal.SIGHUP)
        wanted = {rule["expr"] for group in groups for rule in group["rules"]}

        def loaded() -> bool:
            known = self._get("rules")["groups"]
            return len({rule["query"] for group in known for rule in group["rules"]}) == len(
                wanted
            )

        time.sleep(0.5)
        until(loaded, "Prometheus has read the rules")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression now; nothing while Prometheus starts."""
        try:
            return self._get("query", query=expression)["result"]
        except OSError:
            return []

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or fire."""
        return self._get("alerts")["alerts"]

    def firing(self) -> dict[str, list[dict[str, Any]]]:
        """Return the alerts that fire, by their names."""
        found: dict[str, list[dict[str, Any]]] = {}
        for alert in self.alerts():
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert)
        return found

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)

    def _get(self, what: str, **parameters: str) -> dict[str, Any]:
        address = (
            f"http://127.0.0.1:{self._port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        )
        with urllib.request.urlopen(address, timeout=20) as answer:
            return json.load(answer)["data"]


def until(holds: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until something holds. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not after {seconds} s: {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def open_clients(
    connect: Callable[[], psycopg.Connection[Any]], count: int
) -> Iterator[list[Any]]:
    """Keep this many clients connected meanwhile."""
    clients: list[Any] = []
    try:
        for _ in range(count):
            clients.append(connect())  # noqa: PERF401 - each is closed, also if another is refused
        yield clients
    finally:
        for client in clients:
            client.close()
