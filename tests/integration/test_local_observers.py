"""What `status`, `doctor` and `report` say of exporters and Prometheus, and a Prometheus that is started again."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import tarfile

import pytest
from crash_cli import until
from platform_under_test import COMMAND, Pooler

from pooler.prometheus import Prometheus
from pooler.store import Store

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pooler():
    """A unit with exporters."""
    with contextlib.closing(Pooler()) as pooler:
        pooler.up("--units", "1", "--metrics")
        yield pooler


def said_by_doctor(pooler):
    """Return what `doctor` says of metrics, each with the command that helps."""
    checks = json.loads(pooler.run("doctor", "--json").stdout)["checks"]
    return {
        (check["level"], check["text"]): check["command"]
        for check in checks
        if check["name"] == "metrics"
    }


def said_by_status(pooler):
    """Return the exporters that `status` counts, and its problems with the command that helps."""
    view = json.loads(pooler.run("status", "--json").stdout)
    assert view["active"], "clients do not need exporters"
    return view["observers"], {each["text"]: each["command"] for each in view["problems"]}


@contextlib.contextmanager
def program(pooler, path):
    """Let the state name another program of the exporters."""
    file = pooler.home / "state.json"
    kept = file.read_text()
    known = json.loads(kept)
    known["metrics"]["program"] = str(path)
    file.write_text(json.dumps(known, indent=1))
    try:
        yield
    finally:
        file.write_text(kept)


def prometheus(pooler):
    """Return the process ID of the Prometheus of a home; 0 if none runs."""
    running = Prometheus(Store(pooler.home)).running()
    return running.pid if running else 0


def test_status_and_doctor_count_the_exporters_that_run(pooler):
    counted, problems = said_by_status(pooler)
    assert problems == {}
    count = len(pooler.pids())
    assert (counted["running"], counted["exporters"], counted["prometheus"]) == (count, count, "")
    assert f"exporters {count}/{count}  pgbouncer_exporter {counted['version']}" in pooler(
        "status"
    )
    ((level, text),) = said_by_doctor(pooler)
    assert (level, text) == (
        "ok",
        f"exporters that run: {count}, of pgbouncer_exporter {counted['version']}",
    )


def test_status_and_doctor_name_an_exporter_that_has_ended(pooler):
    pid = int((pooler.home / "units/0/0/exporter.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    until(lambda: not pathlib.Path(f"/proc/{pid}/exe").exists())
    text = "the exporter of process 0 does not run"
    counted, problems = said_by_status(pooler)
    assert counted["running"] == counted["exporters"] - 1
    assert problems == {text: "pooler up"}
    assert said_by_doctor(pooler) == {("warning", f"pgbouncer/0: {text}"): "pooler up"}
    pooler("up")
    assert said_by_status(pooler)[1] == {}


def test_status_and_doctor_name_an_exporter_that_is_missing(pooler, tmp_path):
    text = f"no exporter can start: {tmp_path}/gone is not there, or cannot run"
    with program(pooler, tmp_path / "gone"):
        assert said_by_status(pooler)[1][text] == "pooler up --metrics"
        assert said_by_doctor(pooler)["warning", text] == "pooler up --metrics"


def test_status_and_doctor_name_an_exporter_that_is_old(pooler, tmp_path):
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho pgbouncer_exporter, version 0.10.2\n")
    old.chmod(0o755)
    text = (
        "pgbouncer_exporter 0.10.2 has no metrics of prepared statements and clients by application:"
        " install 0.12.0 or later, and run `pooler up --metrics`"
    )
    with program(pooler, old):
        assert text in said_by_status(pooler)[1]
        assert ("warning", text) in said_by_doctor(pooler)


def test_a_report_has_the_exporter_and_its_log(pooler, tmp_path):
    pooler("report", str(tmp_path / "report.tar.gz"))
    with tarfile.open(tmp_path / "report.tar.gz") as archive:
        parts = {name.partition("/")[2]: name for name in archive.getnames()}
        assert "logs/exporter-0-0.log" in parts
        versions = archive.extractfile(parts["versions.txt"]).read().decode()
        status = json.load(archive.extractfile(parts["status.json"]))
    assert re.search(r"^exporter: /\S+ \d+\.\d+", versions, re.MULTILINE)
    assert status["observers"]["running"] == len(pooler.pids())


def test_a_prometheus_in_the_background_is_started_again(pooler):
    pooler("observe", "--detach")
    first = prometheus(pooler)
    assert said_by_status(pooler)[0]["prometheus"].startswith("http://127.0.0.1:")
    os.kill(first, signal.SIGKILL)
    until(lambda: not prometheus(pooler))
    log = pooler.home / "prometheus/prometheus.log"
    text = f"Prometheus has ended, so no alert fires: see {log}"
    assert said_by_status(pooler)[1] == {text: "pooler observe --detach"}
    assert said_by_doctor(pooler) == {("warning", text): "pooler observe --detach"}
    with subprocess.Popen(
        [*COMMAND, "watch"], env=pooler.environment, stdout=subprocess.PIPE, text=True
    ) as watch:
        watch.stdout.readline()
        assert "Prometheus had ended, and was started again" in watch.stdout.readline()
        assert prometheus(pooler) not in (0, first)
        assert said_by_status(pooler)[1] == {}
        pooler("observe", "--stop")
        assert not prometheus(pooler)
        # A process that watches and has nothing to do looks at an exporter that ends, which takes two seconds.
        os.kill(int((pooler.home / "units/0/0/exporter.pid").read_text()), signal.SIGKILL)
        assert "an exporter had ended, and was started again" in watch.stdout.readline()
        watch.terminate()
    assert not prometheus(pooler)


def test_a_prometheus_that_down_has_ended_stays_ended(pooler):
    pooler("observe", "--detach")
    pooler("down")
    pooler("up")
    assert said_by_status(pooler) == (said_by_status(pooler)[0], {})
    assert not prometheus(pooler)
