"""Where PgBouncer and PostgreSQL come from on this machine."""

import os
import pathlib
import re
import tempfile
import time

import pytest

from domain.capabilities import Version
from pooler import binaries, debian


# ---- where programs come from ----------------------------------------------------------------
def program(path, says):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """A machine on which there is nothing."""
    for name in ("PGBOUNCER", "PGBOUNCER_EXPORTER", "PG_BIN_DIR", "POOLER_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path


def silent(_):
    pass


@pytest.mark.parametrize(
    ("variable", "says", "refusal"),
    [
        ("PGBOUNCER", "PgBouncer 1.20.1", "PgBouncer of 1.21"),
        ("PGBOUNCER", "true (GNU coreutils) 9.1", "PgBouncer of 1.21"),
        ("PGBOUNCER", None, "PgBouncer of 1.21"),
        ("PGBOUNCER_EXPORTER", "PgBouncer 1.26.1", "exporter"),
        ("PGBOUNCER_EXPORTER", None, "exporter"),
    ],
)
def test_a_program_that_was_named_and_will_not_do_is_refused(
    nothing, monkeypatch, variable, says, refusal
):
    path = nothing / "mine"
    if says:
        program(path, says)
    monkeypatch.setenv(variable, str(path))
    find = binaries.pgbouncer if variable == "PGBOUNCER" else binaries.exporter
    refused = re.escape(f"${variable} is {path}, which is no {refusal}")
    with pytest.raises(binaries.Missing, match=refused):
        find(nothing / "cache", silent)


def test_a_pgbouncer_that_was_named_is_taken(nothing, monkeypatch):
    path = program(nothing / "mine", "PgBouncer 1.21.0")
    monkeypatch.setenv("PGBOUNCER", str(path))
    assert binaries.pgbouncer(nothing / "cache", silent) == path


def test_the_machines_own_is_taken_if_it_has_no_known_vulnerability(nothing):
    path = program(nothing / "bin" / "pgbouncer", "PgBouncer 1.26.1")
    assert binaries.pgbouncer(nothing / "cache", silent) == path


def test_a_vulnerable_one_is_taken_where_none_can_be_fetched(nothing):
    path = program(nothing / "bin" / "pgbouncer", "PgBouncer 1.26.0")
    said = []
    assert binaries.pgbouncer(nothing / "cache", said.append) == path
    assert "the PgBouncer of this machine is used, 1.26.0" in said[-1]


@pytest.mark.parametrize(("version", "fetched"), [("1.26.1", False), ("1.24.1", True)])
def test_a_vulnerable_one_is_not_taken_where_another_was_fetched(nothing, version, fetched):
    own = program(nothing / "bin" / "pgbouncer", f"PgBouncer {version}")
    found = program(nothing / "cache" / "pgbouncer-sid" / "pgbouncer", "PgBouncer 1.26.1")
    assert binaries.pgbouncer(nothing / "cache", silent) == (found if fetched else own)


def test_a_machine_of_ubuntu_keeps_its_own(nothing, monkeypatch):
    monkeypatch.setattr(debian, "OS_RELEASE", nothing / "os-release")
    (nothing / "os-release").write_text("NAME=Ubuntu\nID=ubuntu\n")
    own = program(nothing / "bin" / "pgbouncer", "PgBouncer 1.22.0")
    program(nothing / "cache" / "pgbouncer-sid" / "pgbouncer", "PgBouncer 1.26.1")
    assert binaries.pgbouncer(nothing / "cache", silent) == own


RECORDER = """#!/bin/sh
case " $* " in *" update "*) echo "$*" >>"${APT_CONFIG%/*}/../words" ;; *) exit 1 ;; esac
echo "E: this machine has no network" >&2
exit 100
"""


def test_apt_takes_nothing_unsigned_whatever_the_machine_says(nothing, monkeypatch):
    words = nothing / "words"
    monkeypatch.setattr(tempfile, "tempdir", str(nothing))
    for name in ("apt-get", "dpkg-deb"):
        (nothing / "bin" / name).write_text(RECORDER)
        (nothing / "bin" / name).chmod(0o755)
    (nothing / "sources.list").write_text("deb http://mirror/debian stable main\n")
    monkeypatch.setattr(debian, "APT", nothing)
    with pytest.raises(binaries.Missing, match="this machine has no network"):
        binaries.pgbouncer(nothing / "cache", silent)
    for option in (
        "Acquire::AllowInsecureRepositories=false",
        "Acquire::AllowWeakRepositories=false",
        "Acquire::AllowDowngradeToInsecureRepositories=false",
        "APT::Get::AllowUnauthenticated=false",
    ):
        assert f"-o {option}" in words.read_text()


def test_without_apt_nothing_can_be_fetched_and_it_says_what_to_set(nothing):
    with pytest.raises(binaries.Missing, match=r"no apt-get to fetch it: set \$PGBOUNCER"):
        binaries.pgbouncer(nothing / "cache", silent)
    assert not list((nothing / "cache").glob("*/root"))


def test_a_cache_that_cannot_be_written_is_named(nothing):
    (nothing / "file").write_text("")
    with pytest.raises(binaries.Missing, match=r"set \$POOLER_CACHE to another directory"):
        binaries.pgbouncer(nothing / "file" / "cache", silent)


# ---- the exporter and Prometheus -------------------------------------------------------------


def test_a_named_exporter_of_any_version_is_taken(nothing, monkeypatch):
    path = program(nothing / "mine", "pgbouncer_exporter, version 0.7.0 (branch: x)' >&2 #'")
    monkeypatch.setenv("PGBOUNCER_EXPORTER", str(path))
    assert binaries.exporter(nothing / "cache", silent, suite="trixie") == path


@pytest.mark.parametrize("name", ["prometheus-pgbouncer-exporter", "pgbouncer_exporter"])
def test_the_exporter_of_the_machine_is_taken_under_both_names(nothing, name):
    path = program(nothing / "bin" / name, "pgbouncer_exporter, version 0.10.2")
    assert binaries.exporter(nothing / "cache", silent) == path


@pytest.mark.parametrize(("version", "suite"), [("0.9.1", "sid"), ("0.12.0", "trixie")])
def test_an_old_exporter_or_another_suite_is_taken_from_the_cache(nothing, version, suite):
    program(nothing / "bin" / "pgbouncer_exporter", f"pgbouncer_exporter, version {version}")
    cached = nothing / "cache" / f"exporter-{suite}" / "root/usr/bin/prometheus-pgbouncer-exporter"
    program(cached, "pgbouncer_exporter, version 0.12.0")
    assert binaries.exporter(nothing / "cache", silent, suite=suite) == cached


def test_prometheus_of_the_machine_needs_promtool_beside_it(nothing):
    cached = nothing / "cache" / "prometheus-trixie" / "root/usr/bin"
    for name in ("prometheus", "promtool"):
        program(cached / name, f"{name}, version 2.53.3+ds1")
    program(nothing / "bin" / "prometheus", "prometheus, version 2.42.0")
    assert binaries.prometheus(nothing / "cache", silent) == cached
    program(nothing / "bin" / "promtool", "promtool, version 2.42.0")
    assert binaries.prometheus(nothing / "cache", silent) == nothing / "bin"


@pytest.mark.parametrize("left", ["", "truncated"])
def test_an_incomplete_exporter_in_the_cache_is_fetched_again(nothing, monkeypatch, left):
    name = "prometheus-pgbouncer-exporter"
    place = nothing / "cache" / "exporter-sid"
    (place / "root/usr/bin").mkdir(parents=True)
    if left:
        program(place / "root/usr/bin" / name, "nothing")
    monkeypatch.setattr(debian, "APT", nothing)
    (nothing / "sources.list").write_text("deb http://mirror/debian stable main\n")
    program(nothing / "bin/apt-get", f'\' && case "$*" in *download*) : >{name}.deb;; esac #')
    text = "#!/bin/sh\necho pgbouncer_exporter, version 0.12.0"
    file = f"$3/usr/bin/{name}"
    unpacked = f'/usr/bin/install -D -m 755 /dev/null {file} && echo "{text}" >{file}'
    program(nothing / "bin/dpkg-deb", f"' && {unpacked} #")
    said = []
    assert binaries.exporter(nothing / "cache", said.append) == place / "root/usr/bin" / name
    assert said == ["fetching pgbouncer_exporter from Debian sid"]


def test_a_fetch_of_prometheus_that_fails_says_what_to_install(nothing):
    with pytest.raises(binaries.Missing, match="install the packages prometheus and promtool"):
        binaries.prometheus(nothing / "cache", silent)
    assert not list((nothing / "cache").glob("*/root"))


def test_a_download_that_takes_long_says_how_far_it_is(monkeypatch):
    monkeypatch.setattr(debian, "PROGRESS_SECONDS", -1.0)
    said = []
    with debian.progress(said.append, "fetching Prometheus") as shown:
        for line in ("dlstatus:1:3.5:Retrieving", "pmstatus:x:50:no", "dlstatus:1:3.9:Retrieving"):
            os.write(shown.descriptor, f"{line}\n".encode())
        os.write(shown.descriptor, b"dlstatus:2:99.9:Retrieving file 2 of 2\n")
        assert shown.options == ("-o", f"APT::Status-Fd={shown.descriptor}")
    assert said == ["fetching Prometheus: 3 %", "fetching Prometheus: 99 %"]


@pytest.mark.parametrize("page", [True, False])
def test_prometheus_without_its_pages_is_used_where_none_can_be_fetched(nothing, page):
    place = nothing / "cache" / "prometheus-trixie" / "root/usr"
    for name in ("prometheus", "promtool"):
        program(place / "bin" / name, f"{name}, version 2.53.3+ds1")
    pages = place / "share/prometheus/web/static"
    pages.mkdir(parents=True)
    (pages / "jquery").symlink_to(pages if page else nothing / "gone")
    said = []
    assert binaries.prometheus(nothing / "cache", said.append) == place / "bin"
    assert (said == []) is page
    assert page or "its web pages stay incomplete" in said[-1]


@pytest.mark.parametrize("version", ["postgres (PostgreSQL) 13.9", "hello", None])
def test_a_postgresql_that_was_named_and_will_not_do_is_refused(nothing, monkeypatch, version):
    for name in ("initdb", "postgres", "pg_ctl"):
        if version:
            program(nothing / "pg" / name, version)
    monkeypatch.setenv("PG_BIN_DIR", str(nothing / "pg"))
    with pytest.raises(binaries.Missing, match=r"\$PG_BIN_DIR is .*pg, where there is no initdb"):
        binaries.postgresql(nothing / "cache", silent)


def test_a_postgresql_that_was_named_is_taken(nothing, monkeypatch):
    for name in ("initdb", "postgres", "pg_ctl"):
        program(nothing / "pg" / name, "postgres (PostgreSQL) 14.1")
    monkeypatch.setenv("PG_BIN_DIR", str(nothing / "pg"))
    assert binaries.postgresql(nothing / "cache", silent) == nothing / "pg"


def test_a_program_that_hangs_has_no_version(tmp_path, monkeypatch):
    path = tmp_path / "slow"
    path.write_text("#!/bin/sh\nsleep 30\n")
    path.chmod(0o755)
    monkeypatch.setattr(binaries, "VERSION_SECONDS", 0.1)
    begin = time.monotonic()
    assert binaries.version_of(path) == Version(0)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sources.list.d/debian.sources", "Types: deb\nURIs: http://mirror/debian\nSuites: x\n"),
        (
            "sources.list",
            "# deb http://no/\ndeb [signed-by=/k] http://mirror/debian stable main\n",
        ),
        (
            "sources.list",
            "deb http://security/debian-security s main\ndeb http://mirror/debian s main\n",
        ),
    ],
)
def test_packages_come_from_the_machines_own_mirror(tmp_path, monkeypatch, name, text):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    monkeypatch.setattr(debian, "APT", tmp_path)
    assert debian.mirror(binaries.PGBOUNCER) == "http://mirror/debian"


def test_a_machine_without_a_mirror_is_told_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setattr(debian, "APT", tmp_path)
    with pytest.raises(binaries.Missing, match=r"apt knows no mirror: set \$PGBOUNCER"):
        debian.mirror(binaries.PGBOUNCER)


def test_the_cache_is_where_it_was_said(monkeypatch, tmp_path):
    monkeypatch.setenv("POOLER_CACHE", str(tmp_path))
    assert binaries.default_cache() == tmp_path
    monkeypatch.delenv("POOLER_CACHE")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert binaries.default_cache() == pathlib.Path("/var/cache/pgbouncer-k8s")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert binaries.default_cache() == tmp_path / "pgbouncer-k8s"
