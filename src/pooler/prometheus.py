"""Run a Prometheus that reads the exporters of a home, with its configuration and data in the home."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from adapters.local import environment, files, listeners
from adapters.local.exporter_processes import ADDRESS, LocalExporter, end_with_parent
from adapters.local.run_as import chown, identity, prometheus_owner
from adapters.local.system_processes import command_of, pids, send, user_of
from pooler.arguments import CommandError
from pooler.store import Store

# The port of Prometheus itself, or the next free port.
FIRST_PORT = 9090
MOST_TRIES = 100

# Seconds between two looks at the exporters, and at the rules.
INTERVAL_SECONDS = 5

# The data that is kept at most.
RETENTION = "1GB"

START_SECONDS = 60.0
END_SECONDS = 20.0

_LISTEN = "--web.listen-address="


class Running(NamedTuple):
    """A Prometheus that runs for this home."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://{ADDRESS}:{self.port}"

    @property
    def pages(self) -> str:
        """Return where the pages for people are: the Prometheus of Debian has those of an earlier release."""
        return self.url if _answers(self.port, "/alerts") else f"{self.url}/classic"


class Prometheus:
    """The Prometheus of a home."""

    def __init__(self, store: Store) -> None:
        self._owner = prometheus_owner()
        self.directory = store.home / "prometheus"
        self.log = self.directory / "prometheus.log"
        self._config = self.directory / "prometheus.yml"
        self._targets = self.directory / "targets.json"
        self._rules = self.directory / "rules.yml"

    def running(self) -> Running | None:
        """Return the Prometheus that runs for this home."""
        for pid in pids():
            if self._is_ours(pid):
                ports = [
                    re.fullmatch(rf"{_LISTEN}{re.escape(ADDRESS)}:([0-9]{{1,5}})", word)
                    for word in command_of(pid)
                ]
                if port := next((int(match[1]) for match in ports if match), 0):
                    return Running(pid, port)
        return None

    def _is_ours(self, pid: int) -> bool:
        owner = self._owner.user if self._owner else os.geteuid()
        return f"--config.file={self._config}" in command_of(pid) and user_of(pid) == owner

    def configure(
        self,
        exporters: Sequence[LocalExporter],
        groups: Sequence[dict[str, object]],
        application: str,
    ) -> None:
        """Write what Prometheus reads; a Prometheus that runs takes it over. Raises OSError.

        `groups` are groups of rules in the shape of Prometheus' files of rules.
        """
        files.make_directory(
            self.directory, 0o750 if self._owner else 0o700, self._owner and self._owner.group
        )
        # Prometheus looks at the file of targets by itself, and reads the rules at SIGHUP.
        self._write(self._targets, _targets(exporters, application))
        changed = self._write(self._rules, {"groups": list(groups)})
        changed |= self._write(self._config, self._configuration())
        found = self.running() if changed else None
        if found:
            send(found.pid, signal.SIGHUP, self._is_ours)

    def _configuration(self) -> dict[str, object]:
        interval = f"{INTERVAL_SECONDS}s"
        return {
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": [str(self._rules)],
            "scrape_configs": [
                {
                    "job_name": "pgbouncer",
                    "file_sd_configs": [{"files": [str(self._targets)]}],
                }
            ],
        }

    def _write(self, path: pathlib.Path, content: object) -> bool:
        """Write JSON, which is YAML, too; return whether that changed the file."""
        text = json.dumps(content, indent=1)
        with suppress(OSError):
            if path.read_text() == text:
                return False
        files.write(path, text, self._owner.group if self._owner else None)
        return True

    def start(self, programs: pathlib.Path, *, ends_with_command: bool) -> subprocess.Popen[bytes]:
        """Start Prometheus, and wait until it answers. Raises CommandError and OSError.

        With `ends_with_command` it ends with this process, also after a kill.
        """
        data = self.directory / "data"
        if not data.exists():
            data.mkdir(0o700)
            chown(data, self._owner)
        port = _free_port()
        with open(files.open_log(self.log), "a") as log:
            os.truncate(log.fileno(), 0)
            process = subprocess.Popen(
                [
                    programs / "prometheus",
                    f"--config.file={self._config}",
                    f"--storage.tsdb.path={data}",
                    f"--storage.tsdb.retention.size={RETENTION}",
                    f"{_LISTEN}{ADDRESS}:{port}",
                    # No page of another origin may read the metrics in a browser.
                    "--web.cors.origin=none",
                    *_assets(programs),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env=environment.for_servers(),
                preexec_fn=end_with_parent() if ends_with_command else None,  # noqa: PLW1509 — as in UnitProcesses
                **identity(self._owner),
            )
        end = time.monotonic() + START_SECONDS
        while not _answers(port, "/-/ready"):
            if process.poll() is not None:
                raise CommandError(
                    f"Prometheus ended at once: {self._last_error()}; see {self.log}"
                )
            if time.monotonic() > end:
                process.kill()
                raise CommandError(
                    f"Prometheus does not answer after {START_SECONDS:g} s: see {self.log}"
                )
            time.sleep(0.1)
        return process

    def stop(self) -> bool:
        """End the Prometheus of this home, and return whether there was any."""
        found = self.running()
        if found is None:
            return False
        for number in (signal.SIGTERM, signal.SIGKILL):
            send(found.pid, number, self._is_ours)
            end = time.monotonic() + END_SECONDS
            while self._is_ours(found.pid) and time.monotonic() < end:
                time.sleep(0.05)
        return True

    def _last_error(self) -> str:
        with suppress(OSError):
            for line in reversed(files.read(self.log).splitlines()):
                if match := re.search(r'\berr="?([^"\n]{1,200})', line):
                    return match[1]
        return "it gave no reason"


def _targets(exporters: Sequence[LocalExporter], application: str) -> list[dict[str, object]]:
    """Return the exporters as targets, each with the labels that Juju's Prometheus would give it."""
    return [
        {
            "targets": [f"{ADDRESS}:{exporter.port}"],
            "labels": {
                "job": f"pgbouncer-{exporter.process}",
                "process": str(exporter.process),
                "juju_application": application,
                "juju_unit": exporter.unit,
            },
        }
        for exporter in exporters
    ]


def _assets(programs: pathlib.Path) -> list[str]:
    """Return the options for the pages of a Prometheus of Debian that was unpacked into a directory."""
    share = programs.parent / "share" / "prometheus" / "web"
    return [f"--web.local-assets={share}/"] if share.is_dir() else []


def _free_port() -> int:
    """Return the first free port. Raises CommandError."""
    for port in range(FIRST_PORT, FIRST_PORT + MOST_TRIES):
        if listeners.is_free(ADDRESS, port):
            return port
    raise CommandError(
        f"ports {FIRST_PORT} to {FIRST_PORT + MOST_TRIES - 1} of {ADDRESS} are taken, so Prometheus cannot"
        " listen: end the programs that use them"
    )


def _answers(port: int, path: str) -> bool:
    """Return whether Prometheus answers with a page."""
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
