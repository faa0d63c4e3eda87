"""Run what the dashboard looks at: PgBouncer processes with exporters, PostgreSQL, load and Prometheus."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import psycopg
from folders import new_folder
from ports import free_port
from postgresql import PASSWORD, PostgreSQL

from loops import in_threads
from pooler import binaries
from pooler.binaries import OLDER_SUITE, SUITE, default_cache, postgresql_owner

MODEL, MODEL_UUID, APPLICATION = "shop", "0f1f6c1e-1c2f-4d0d-9a53-2c6c3a2b7a11", "pgbouncer-k8s"
# The databases, and the user of each.
DATABASES = {"shop": "web", "billing": "invoices"}
# The connections that a process may have to a database, and the clients that it accepts.
MAX_CONNECTIONS, MAX_CLIENTS = 4, 100


class Place(NamedTuple):
    """A process of a unit, and the Debian release of its PgBouncer and of its exporter."""

    unit: int
    process: int
    suite: str = SUITE
    exporter_suite: str = SUITE

    @property
    def name(self) -> str:
        """Return a name for directories and jobs."""
        return f"{self.unit}-{self.process}"

    def labels(self) -> dict[str, str]:
        """Return the labels of the targets, as the charm of Prometheus gives them."""
        topology = {
            "juju_model": MODEL,
            "juju_model_uuid": MODEL_UUID,
            "juju_application": APPLICATION,
            "juju_unit": f"{APPLICATION}/{self.unit}",
        }
        return {
            **topology,
            "juju_charm": "pgbouncer-k8s",
            "process": str(self.process),
            "instance": "_".join(topology.values()),
        }


# Both versions of PgBouncer, each with both versions of the exporter: two units with two processes.
EVERY_VERSION = (
    Place(0, 0, SUITE, SUITE),
    Place(0, 1, SUITE, OLDER_SUITE),
    Place(1, 0, OLDER_SUITE, SUITE),
    Place(1, 1, OLDER_SUITE, OLDER_SUITE),
)


def expanded(expression: str, selected: Mapping[str, str], interval: str = "15s") -> str:
    """Return an expression as Grafana sends it, with the values of the variables of the dashboard.

    A variable that is not selected has the value that Grafana sends for All.
    """
    for name in ("juju_model_uuid", "juju_model", "juju_application", "juju_unit", "process"):
        expression = expression.replace(f'"${name}"', json.dumps(selected.get(name, ".*")))
    return expression.replace("$__rate_interval", interval)


class Answer(NamedTuple):
    """What Prometheus answered to a query: the series, or the error."""

    series: list[dict[str, Any]]
    error: str = ""


class Observed:
    """PgBouncer processes that are scraped; use as a context manager.

    `seconds` is the interval of the scrapes. Everything listens on 127.0.0.1.
    """

    def __init__(self, places: Sequence[Place] = EVERY_VERSION, seconds: float = 1) -> None:
        self.places = places
        self._seconds = seconds
        self._closing = contextlib.ExitStack()
        self._listens = {place: free_port() for place in places}
        self._exports = {place: free_port() for place in places}
        self._prometheus = free_port()
        self._pgbouncers: dict[Place, subprocess.Popen[Any]] = {}
        self._exporters: dict[Place, subprocess.Popen[Any]] = {}

    def __enter__(self) -> Observed:
        with contextlib.ExitStack() as stack:
            self.server = stack.enter_context(PostgreSQL(settings={"max_connections": "200"}))
            self._home = new_folder("observed-")
            stack.callback(shutil.rmtree, self._home, ignore_errors=True)
            _own(self._home)
            for database, user in DATABASES.items():
                self.server.sql(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
                self.server.sql(f"CREATE DATABASE {database} OWNER {user}")
            for place in self.places:
                self._run_pgbouncer(place, stack)
                self._run_exporter(place, place.exporter_suite, stack)
            self._run_prometheus(stack)
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def connect(self, place: Place, database: str, user: str = "") -> psycopg.Connection[Any]:
        """Return a connection of a client to a process, by TCP; without a user, of the database's owner."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self._listens[place],
            user=user or DATABASES[database],
            dbname=database,
            application_name="checkout",
            autocommit=True,
            prepare_threshold=None,
        )

    def console(self, place: Place, command: str) -> list[tuple[Any, ...]]:
        """Return the rows that the console of a process answers."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self._listens[place],
            user="admin",
            dbname="pgbouncer",
            autocommit=True,
        ) as connection:
            cursor = connection.execute(command.encode())
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def load(
        self, clients: int = 3, pause: float = 0.02, hold: float = 0.05, think: float = 0
    ) -> Generator[None]:
        """Let this many clients of each database and process run transactions meanwhile.

        A query takes `hold` seconds. The client then keeps the transaction open for `think` seconds, and does
        nothing for `pause` seconds after it.
        """

        def run(place: Place, database: str, ending: threading.Event) -> None:
            while not ending.is_set():
                with contextlib.suppress(psycopg.Error), self.connect(place, database) as client:
                    while not ending.wait(pause):
                        with client.transaction() if think else contextlib.nullcontext():
                            client.execute("SELECT pg_sleep(%s)", (hold,))
                            ending.wait(think)
                ending.wait(0.5)

        pools = itertools.product(self.places, DATABASES)
        with in_threads([functools.partial(run, *pool) for pool in pools for _ in range(clients)]):
            yield

    def kill(self, place: Place) -> None:
        """Kill the PgBouncer of a process."""
        self._pgbouncers[place].kill()
        self._pgbouncers[place].wait(30)

    def start_again(self, place: Place) -> None:
        """Start the PgBouncer of a process that was killed."""
        self._run_pgbouncer(place, self._closing)

    def replace_exporter(self, place: Place, suite: str) -> None:
        """Replace the exporter of a process by the exporter of another Debian release, at its port."""
        self._exporters[place].kill()
        self._exporters[place].wait(30)
        self._run_exporter(place, suite, self._closing)

    def scraped(self, place: Place) -> str:
        """Return the metrics that the exporter of a process shows."""
        address = f"http://127.0.0.1:{self._exports[place]}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.read().decode()

    def log(self, place: Place) -> str:
        """Return the log of a process."""
        return (self._home / place.name / "log").read_text(errors="replace")

    def query(self, expression: str) -> Answer:
        """Return what Prometheus answers to an expression now."""
        return self._ask("query", {"query": expression})

    def query_range(self, expression: str, start: float, end: float, step: float = 1) -> Answer:
        """Return what Prometheus answers for a range of moments, with a value for each step."""
        return self._ask(
            "query_range",
            {
                "query": expression,
                "start": f"{start:.3f}",
                "end": f"{end:.3f}",
                "step": f"{step}",
            },
        )

    def values(self, label: str, selector: str) -> list[str]:
        """Return the values of a label among the series that a selector names."""
        return self._get(f"label/{label}/values", {"match[]": selector})["data"]

    def wait(self, holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until something holds. Fails with `what`."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"not after {seconds} s: {what}\n{self._outputs()}"
            time.sleep(0.2)

    def wait_for_none(self, missing: Callable[[], object], seconds: float = 60) -> None:
        """Wait until nothing is missing. Fails with what is missing."""
        end = time.monotonic() + seconds
        while found := missing():
            assert time.monotonic() < end, f"not after {seconds} s: {found}\n{self._outputs()}"
            time.sleep(0.2)

    def _outputs(self) -> str:
        files = [path for path in self._home.glob("*/*") if path.name in {"output", "exporter"}]
        return "\n".join(f"{path}: {path.read_text(errors='replace')[-800:]}" for path in files)

    def _ask(self, what: str, parameters: Mapping[str, str]) -> Answer:
        answer = self._get(what, parameters)
        if answer["status"] != "success":
            return Answer([], answer["error"])
        result = answer["data"]["result"]
        return Answer([{"metric": {}, "value": result}] if _is_scalar(answer) else result)

    def _get(self, what: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self._prometheus}/api/v1/{what}"
        request = f"{address}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def _run_pgbouncer(self, place: Place, stack: contextlib.ExitStack) -> None:
        home = self._home / place.name
        home.mkdir(exist_ok=True)
        pools = [
            f"{name} = host=127.0.0.1 port={self.server.port} dbname={name}"
            f" max_db_connections={MAX_CONNECTIONS}"
            for name in DATABASES
        ]
        users = [f'"{name}" "{PASSWORD}"' for name in (*DATABASES.values(), "admin")]
        (home / "users").write_text("\n".join(users) + "\n")
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self._listens[place],
            "unix_socket_dir": home,
            "unix_socket_mode": "0700",
            "pidfile": home / "pid",
            "logfile": home / "log",
            "auth_type": "trust",
            "auth_file": home / "users",
            "admin_users": "admin",
            "ignore_startup_parameters": "extra_float_digits",
            "pool_mode": "transaction",
            "max_client_conn": MAX_CLIENTS,
            "log_connections": 0,
            "log_disconnections": 0,
        }
        (home / "ini").write_text(
            "\n".join(
                ["[databases]", *pools, "[pgbouncer]"]
                + [f"{name} = {value}" for name, value in settings.items()]
            )
        )
        _own(home, *home.iterdir())
        program = binaries.pgbouncer(default_cache(), print, place.suite)
        self._pgbouncers[place] = self._start(
            stack, [program, "-q", home / "ini"], home / "output"
        )

    def _run_exporter(self, place: Place, suite: str, stack: contextlib.ExitStack) -> None:
        home = self._home / place.name
        # An exporter before 0.11 ends if PgBouncer does not answer when it starts.
        self.wait((home / f".s.PGSQL.{self._listens[place]}").exists, f"PgBouncer {place.name}")
        program = binaries.exporter(default_cache(), print, suite)
        dsn = (
            f"host={home} port={self._listens[place]} user=pgbouncer dbname=pgbouncer"
            " sslmode=disable"
        )
        self._exporters[place] = self._start(
            stack,
            [
                program,
                f"--pgBouncer.connectionString={dsn}",
                f"--pgBouncer.pid-file={home / 'pid'}",
                f"--web.listen-address=127.0.0.1:{self._exports[place]}",
            ],
            home / "exporter",
        )

    def _run_prometheus(self, stack: contextlib.ExitStack) -> None:
        home = self._home / "prometheus"
        home.mkdir()
        jobs = [
            {
                "job_name": f"{APPLICATION}-pgbouncer-{place.process}-{place.unit}",
                "static_configs": [
                    {"targets": [f"127.0.0.1:{port}"], "labels": place.labels()},
                ],
            }
            for place, port in self._exports.items()
        ]
        interval = f"{int(self._seconds * 1000)}ms"
        settings = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": jobs,
        }
        # JSON is YAML.
        (home / "prometheus.yml").write_text(json.dumps(settings))
        _own(home, home / "prometheus.yml")
        program = binaries.prometheus(default_cache(), print) / "prometheus"
        self._start(
            stack,
            [
                program,
                f"--config.file={home / 'prometheus.yml'}",
                f"--storage.tsdb.path={home / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._prometheus}",
            ],
            home / "output",
        )
        self.wait(
            lambda: self._answers() and bool(self.query("pgbouncer_up == 1").series),
            "Prometheus has a scrape",
            20,
        )

    def _answers(self) -> bool:
        try:
            return self.query("1").error == ""
        except (OSError, ValueError):
            # While it starts, it answers in plain text that it is not available.
            return False

    def _start(
        self,
        stack: contextlib.ExitStack,
        command: Sequence[str | pathlib.Path],
        output: pathlib.Path,
    ) -> subprocess.Popen[Any]:
        owner = postgresql_owner()
        run_as: dict[str, Any] = (
            {"user": owner.user, "group": owner.group, "extra_groups": []} if owner else {}
        )
        with output.open("ab") as file:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self._home,
                **run_as,
            )

        def end() -> None:
            process.kill()
            process.wait(30)

        stack.callback(end)
        return process


def _is_scalar(answer: Mapping[str, Any]) -> bool:
    return answer["data"]["resultType"] in {"scalar", "string"}


def _own(*paths: pathlib.Path) -> None:
    if owner := postgresql_owner():
        for path in paths:
            os.chown(path, owner.user, owner.group)
