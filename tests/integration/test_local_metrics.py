"""`metrics`, `up --metrics` and `observe`, with real exporters and a real Prometheus."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import urllib.parse

import psycopg
import pytest
from crash_cli import until
from platform_under_test import COMMAND, Pooler
from ports import free_port

from loops import in_threads
from pooler import binaries

pytestmark = pytest.mark.long

SAMPLE = re.compile(r'(\w+)\{unit="([^"]+)",process="(\d+)"(?:,(.*))?\} (\S+)')


@pytest.fixture(scope="module")
def pooler():
    """Two units with exporters, of which `demo` has few server connections."""
    with contextlib.closing(Pooler()) as pooler:
        pooler.up("--metrics", "max_db_connections=4", "pool_mode=transaction")
        reserve_ports(pooler)
        yield pooler


def reserve_ports(pooler):
    """Let each exporter listen at a port that no exporter of another test gets while this exporter is down."""
    state = pooler.home / "state.json"
    known = json.loads(state.read_text())
    known["metrics"]["ports"] = {name: free_port() for name in known["metrics"]["ports"]}
    state.write_text(json.dumps(known, indent=1))
    pooler("up")
    assert ports(pooler) == known["metrics"]["ports"]


def samples(pooler, name):
    """Return the values of a metric as (unit, process, labels, value)."""
    found = SAMPLE.findall(pooler("metrics"))
    return [
        (unit, process, labels, float(value))
        for at, unit, process, labels, value in found
        if at == name
    ]


def exporters(pooler):
    """Return the command line of each exporter of a home, by process ID."""
    found = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        words = read(process / "cmdline").split("\0")
        if any(word.startswith(f"--pgBouncer.pid-file={pooler.home}/") for word in words):
            found[int(process.name)] = words
    return found


def read(path):
    """Return the text of a file of /proc; '' if the process has ended."""
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def ports(pooler):
    return json.loads((pooler.home / "state.json").read_text())["metrics"]["ports"]


def get(url, path):
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read().decode()


# ---- up --metrics


def test_each_process_has_an_exporter_that_reads_this_process(pooler):
    up = samples(pooler, "pgbouncer_up")
    processes = len(pooler.pids())
    assert [value for *_, value in up] == [1.0] * processes
    assert len({(unit, process) for unit, process, *_ in up}) == processes
    versions = samples(pooler, "pgbouncer_version_info")
    assert len(versions) == processes


def test_exporters_listen_on_loopback_as_the_user_of_pgbouncer(pooler):
    found = exporters(pooler)
    assert sorted(set(ports(pooler).values())) == sorted(ports(pooler).values())
    of_pgbouncer = {pathlib.Path(f"/proc/{pid}").stat().st_uid for pid in pooler.pids()}
    for pid, words in found.items():
        assert {pathlib.Path(f"/proc/{pid}").stat().st_uid} == of_pgbouncer
        assert any(word.startswith("--web.listen-address=127.0.0.1:") for word in words)


def test_no_secret_is_in_the_command_line_or_environment_of_exporters(pooler):
    state = (pooler.home / "state.json").read_text()
    secrets = re.findall(r'"(?:password|admin_password|auth_password)": "([^"]+)"', state)
    assert secrets
    for pid, words in exporters(pooler).items():
        known = " ".join(words) + pathlib.Path(f"/proc/{pid}/environ").read_text()
        assert not any(secret in known for secret in secrets)


def test_exporters_follow_the_port_and_the_number_of_units(pooler):
    before = ports(pooler)
    pooler("scale", "3")
    assert before.items() <= ports(pooler).items()
    assert {unit for unit, *_ in samples(pooler, "pgbouncer_up")} == {
        "pgbouncer/0",
        "pgbouncer/1",
        "pgbouncer/2",
    }
    pooler("scale", "2")
    assert ports(pooler) == before
    assert len(exporters(pooler)) == len(before)
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    pooler("config", f"listen_port={port}")
    assert len(exporters(pooler)) == len(pooler.pids())
    assert {value for *_, value in samples(pooler, "pgbouncer_up")} == {1.0}
    pooler("config", f"listen_port={pooler.port}")


def test_an_exporter_that_died_is_started_again_at_its_port(pooler):
    before = ports(pooler)
    for pid in exporters(pooler):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not exporters(pooler))
    done = pooler.run("metrics")
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "run `pooler up`" in done.stderr
    pooler("up")
    assert ports(pooler) == before
    assert {value for *_, value in samples(pooler, "pgbouncer_up")} == {1.0}


def test_an_exporter_whose_port_was_taken_gets_another_port(pooler):
    before = ports(pooler)
    first = min(before, key=before.get)
    for pid in exporters(pooler):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not exporters(pooler))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", before[first]))
        other.listen()
        pooler("up")
        after = ports(pooler)
    assert after[first] not in before.values()
    assert {name for name in before if before[name] != after[name]} == {first}
    reserve_ports(pooler)


def test_a_unit_serves_while_its_exporter_is_missing(pooler):
    state = pooler.home / "state.json"
    kept = state.read_text()
    known = json.loads(kept)
    known["metrics"]["program"] = "/gone/exporter"
    state.write_text(json.dumps(known, indent=1))
    try:
        said = pooler("scale", "2")
        assert "/gone/exporter does not start: No such file or directory" in said
        assert pooler.run("status").returncode == 0
    finally:
        pooler("up")
    assert json.loads(state.read_text())["metrics"] == json.loads(kept)["metrics"]
    assert {value for *_, value in samples(pooler, "pgbouncer_up")} == {1.0}


def test_the_process_that_watches_starts_exporters_again(pooler):
    with subprocess.Popen(
        [*COMMAND, "watch"], env=pooler.environment, stdout=subprocess.PIPE, text=True
    ) as watch:
        watch.stdout.readline()
        pid = min(exporters(pooler))
        os.kill(pid, signal.SIGKILL)
        until(
            lambda: len(exporters(pooler)) == len(pooler.pids()) and pid not in exporters(pooler)
        )
        assert "an exporter had ended, and was started again" in watch.stdout.readline()
        watch.terminate()


# ---- metrics


def test_the_page_is_valid_for_promtool_and_names_the_exporters(pooler):
    page = pooler("metrics", "--all")
    promtool = binaries.prometheus(binaries.default_cache(), print) / "promtool"
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 3), (
        done.stderr
    )  # 3: names that its style guide would not choose.
    assert "error while" not in done.stderr
    for port in ports(pooler).values():
        assert f"http://127.0.0.1:{port}/metrics" in page
    assert 'go_goroutines{unit="pgbouncer/0"' in page
    assert "go_goroutines" not in pooler("metrics")


def test_metrics_as_json_have_the_values_of_the_page(pooler):
    view = json.loads(pooler("metrics", "--json"))
    assert {each["url"] for each in view["exporters"]} == {
        f"http://127.0.0.1:{port}/metrics" for port in ports(pooler).values()
    }
    limits = [
        each
        for each in view["metrics"]
        if each["name"] == "pgbouncer_config_max_client_connections"
    ]
    page = samples(pooler, "pgbouncer_config_max_client_connections")
    assert [
        (each["labels"]["unit"], each["labels"]["process"], each["value"]) for each in limits
    ] == [(unit, process, value) for unit, process, _, value in page]


@contextlib.contextmanager
def clients_that_wait(pooler, number):
    """Keep more clients busy than there are server connections, each for the whole context."""
    told = pooler.credentials("demo")

    def work(stop):
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(told["uri"], prepare_threshold=None) as client,
        ):
            client.execute("select 1")
            stop.wait(300)

    with in_threads([work] * number):
        yield


def test_top_and_the_exporters_show_the_same_numbers(pooler):
    def by_top():
        view = json.loads(pooler("top", "--once", "--each", "--all", "--json"))
        return {
            (row["unit"], str(row["process"]), row["database"], row["user"]): (
                row["clients"],
                row["waiting"],
                row["servers"],
                row["servers_active"],
            )
            for row in view["rows"]
            if row["database"] == "demo"
        }

    def by_exporters():
        rows = json.loads(pooler("metrics", "--json"))["metrics"]
        found = {}
        for row in rows:
            labels = row["labels"]
            if labels.get("database") == "demo" and row["name"].startswith("pgbouncer_pools_"):
                key = (labels["unit"], labels["process"], labels["database"], labels["user"])
                name = row["name"].removeprefix("pgbouncer_pools_").removesuffix("_connections")
                found.setdefault(key, {})[name] = row["value"]
        return {
            key: (
                pool["client_active"] + pool["client_waiting"],
                pool["client_waiting"],
                pool["server_active"] + pool["server_idle"],
                pool["server_active"],
            )
            for key, pool in found.items()
        }

    def is_busy(pools):
        return sum(pool[0] for pool in pools) == 12 and any(pool[1] for pool in pools)

    with clients_that_wait(pooler, 12):
        until(lambda: is_busy(by_top().values()))
        until(lambda: by_top() == by_exporters())


def test_metrics_without_exporters_leave_none_behind(pooler):
    pooler("up", "--no-metrics")
    assert not exporters(pooler)
    assert json.loads((pooler.home / "state.json").read_text())["metrics"] is None
    try:
        assert {value for *_, value in samples(pooler, "pgbouncer_up")} == {1.0}
        assert not exporters(pooler)
        with subprocess.Popen(
            [*COMMAND, "metrics"], env=pooler.environment, stdout=subprocess.DEVNULL
        ) as killed:
            until(lambda: exporters(pooler) or killed.poll() is not None)
            killed.kill()
        until(lambda: not exporters(pooler))
    finally:
        pooler("up", "--metrics")


# ---- observe


@pytest.fixture(scope="module")
def observed(pooler):
    """The address of a Prometheus in the background."""
    said = pooler("observe", "--detach")
    try:
        yield re.search(r"(http://127\.0\.0\.1:\d+)\S*/alerts", said)[1]
    finally:
        pooler("observe", "--stop")


def answer(url, expression):
    words = urllib.parse.urlencode({"query": expression})
    return json.loads(get(url, f"/api/v1/query?{words}"))["data"]["result"]


def test_prometheus_reads_every_process(pooler, observed):
    until(lambda: len(answer(observed, "pgbouncer_up == 1")) == len(pooler.pids()))
    labels = [each["metric"] for each in answer(observed, "pgbouncer_up")]
    assert {each["juju_unit"] for each in labels} == {"pgbouncer/0", "pgbouncer/1"}
    assert all(each["job"] == f"pgbouncer-{each['process']}" for each in labels)


def test_prometheus_follows_the_number_of_units(pooler, observed):
    pooler("scale", "3")
    try:
        until(lambda: len(answer(observed, "pgbouncer_up == 1")) == len(pooler.pids()))
    finally:
        pooler("scale", "2")


def rules(url):
    groups = json.loads(get(url, "/api/v1/rules"))["data"]["groups"]
    return {rule["name"]: rule for group in groups for rule in group["rules"]}


def test_prometheus_evaluates_the_rules_for_the_options(pooler, observed):
    def are_evaluated():
        found = rules(observed).values()
        return found and all(rule["health"] == "ok" for rule in found)

    until(are_evaluated)
    assert "PgBouncerDown" in rules(observed)
    assert not [name for name, rule in rules(observed).items() if rule.get("state") == "firing"]
    before = rules(observed)["PgBouncerWaitNearTimeout"]["query"]
    pooler("config", "query_wait_timeout=37")
    until(lambda: rules(observed)["PgBouncerWaitNearTimeout"]["query"] != before)


@pytest.mark.root
def test_prometheus_runs_as_another_user_than_pgbouncer(pooler, observed):
    config = f"--config.file={pooler.home}/prometheus/prometheus.yml"
    of_prometheus = {
        process.stat().st_uid
        for process in pathlib.Path("/proc").glob("[0-9]*")
        if config in read(process / "cmdline").split("\0")
    }
    of_pgbouncer = {pathlib.Path(f"/proc/{pid}").stat().st_uid for pid in pooler.pids()}
    assert len(of_prometheus) == len(of_pgbouncer) == 1
    assert not of_prometheus & {0, *of_pgbouncer}
    assert {path.stat().st_mode & 0o777 for path in pooler.home.glob("run/*/*")} == {0o700}


def test_ctrl_c_ends_prometheus_and_keeps_its_data(fresh):
    fresh.up("--units", "1")
    with subprocess.Popen(
        [*COMMAND, "observe"], env=fresh.environment, stdout=subprocess.PIPE, text=True
    ) as command:
        url = next(
            found[1]
            for line in command.stdout
            if (found := re.search(r"(http://127\.0\.0\.1:\d+)\S*/alerts", line))
        )
        until(lambda: answer(url, "pgbouncer_up == 1"))
        command.send_signal(signal.SIGINT)
        rest = command.stdout.read()
    assert command.returncode == 0, rest
    assert "its data stays in" in rest
    assert (fresh.home / "prometheus" / "data").is_dir()
    assert len(exporters(fresh)) == len(fresh.pids())
    fresh("observe", "--detach")
    fresh("down")
    assert not exporters(fresh)
    assert "no Prometheus runs" in fresh("observe", "--stop")
    fresh.delete()
    assert not fresh.home.exists()
