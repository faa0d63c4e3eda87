"""Attacks by local users of the machine, by hostile input to the command, and by a hostile mirror."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from attack import NotRun, attack, hold
from platform_under_test import ROOT, Pooler
from postgresql import PASSWORD
from stage import Stage

NOBODY = 65534
CANARY = "canary-of-the-caller"


def _as_root() -> None:
    if os.geteuid() != 0:
        raise NotRun("only root runs servers as another user: run `make test-root` as root")


def _as(user: int, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A shell script, run by a user with this number."""
    return subprocess.run(
        ["sh", "-c", script, "sh", *words],
        user=user,
        group=user,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=30,
    )


@attack("34", "hostile names and databases", "high")
def hostile_names(stage: Stage) -> None:
    """A hostile application asks for names that would end a line of a configuration or a statement."""
    before = stage.processes()
    accepted: list[str] = []
    for words in (
        ("evil\nadmin_users = evil",),
        ("evil-34", "--database", "a\nb = host=evil"),
        ("evil-34", "--database", "a b"),
        ("evil-34", "--database", 'a"; DROP ROLE operator; --'),
        ("evil-34", "--database", "*"),
        ("evil-34", "--database", "postgres"),
        ("evil-34", "--database", "pgbouncer"),
        ("evil-34", "--database", "template1"),
        ("evil-34", "--database", "x" * 64),
        ("evil-34", "--roles", "superuser"),
        ("evil-34", "--roles", "pg_execute_server_program"),
        ("evil-34", "--roles", 'createdb"; --'),
        ("../../etc",),
    ):
        if stage.tried("relate", *words)[0] == 0:
            accepted.append(repr(words))
            stage.tried("unrelate", words[0])
    hold(not accepted, f"accepted: {', '.join(accepted)}")
    stage.untouched(before)
    stage.by_pool(stage.demo).close()


@attack("35", "links planted where root writes", "high")
def planted_links(stage: Stage) -> str:
    """The user that PgBouncer runs as plants links to root's file at paths that root will write."""
    _as_root()
    servant = os.stat(f"/proc/{stage.processes()[0].pid}").st_uid
    hold(servant != 0, "PgBouncer runs as root")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o711)
        planted: list[str] = []
        root = stage.pooler.home / "units" / "0"
        # The directory of a process, of its unit, and the platform's own.
        for directory in (root / "0", root / "1", root, root.parent, stage.pooler.home):
            for file in (
                "userlist.new",
                "userlist.txt",
                "applied.new",
                "applied.json",
                "pgbouncer.new",
                "pgbouncer.ini",
                "pgbouncer.log",
                "state.new",
                "postgresql.log",
            ):
                precious = folder / f"{directory.name}-{file}"
                precious.write_text("of root\n")
                precious.chmod(0o600)
                script = 'ln -s "$1" "$2" || { mv "$2" "$2.away" && ln -s "$1" "$2"; }'
                if _as(servant, script, str(precious), str(directory / file)).returncode == 0:
                    planted.append(f"{directory.name}/{file}")
        for words in (("config", "server_idle_timeout=77"), ("restart",), ("up",)):
            stage.tried(*words)
        broken = [
            path.name
            for path in sorted(folder.iterdir())
            if path.stat().st_uid != 0 or path.read_text() != "of root\n"
        ]
        for link in stage.pooler.home.rglob("*"):
            if link.is_symlink():
                link.unlink()
        for away in stage.pooler.home.rglob("*.away"):
            if not away.with_suffix("").exists():
                away.rename(away.with_suffix(""))
        stage.tried("config", "server_idle_timeout=600")
        stage.tried("up")
        hold(
            not broken,
            f"root writes through {len(broken)} links, such as {broken[0] if broken else ''}",
        )
        return f"{len(planted)} links planted, none followed"


@attack("35b", "PostgreSQL's user reads and stops PgBouncer", "high")
def two_users(stage: Stage) -> str:
    """A client that runs commands as PostgreSQL's user wants the secrets of PgBouncer.

    The platform's own PostgreSQL and PgBouncer have to run as two users.
    """
    _as_root()
    with _own_server(stage) as (pooler, poolers, postgres):
        users = {os.stat(f"/proc/{pid}").st_uid for pid in poolers}
        theirs = os.stat(f"/proc/{postgres}").st_uid
        hold(0 not in users | {theirs}, "a server runs as root")
        hold(theirs not in users, f"PgBouncer and PostgreSQL both run as user {theirs}")
        script = 'find "$1" -type f -readable ! -path "*/postgresql*"'
        readable = _as(theirs, script, str(pooler.home)).stdout.split()
        hold(not readable, f"PostgreSQL's user reads {readable[:3]}")
        return f"PgBouncer runs as user {users.pop()}, PostgreSQL as {theirs}"


@attack("36", "the caller's environment in the servers", "medium")
def environment(stage: Stage) -> None:
    """The servers' user reads /proc/PID/environ of PgBouncer and PostgreSQL for $PGPASSWORD."""
    for process in stage.processes():
        told = pathlib.Path(f"/proc/{process.pid}/environ").read_bytes()
        hold(PASSWORD.encode() not in told, "PgBouncer has the superuser's password")
    with _own_server(stage) as (_, poolers, postgres):
        for name, pid in [*(("PgBouncer", pid) for pid in poolers), ("PostgreSQL", postgres)]:
            told = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
            hold(CANARY.encode() not in told, f"{name} has the environment of its caller")


@contextlib.contextmanager
def _own_server(stage: Stage):
    """A platform with a PostgreSQL of its own: the command, PgBouncer's processes, the postmaster."""
    pooler = Pooler(
        PGBOUNCER=str(stage.program), PG_BIN_DIR=str(stage.programs), CANARY_SECRET=CANARY
    )
    with contextlib.closing(pooler):
        pooler.up("--units", "1")
        processes = [process.pid for process in Stage.processes_below(pooler.home)]
        found = next(iter(pooler.home.rglob("postmaster.pid")))
        yield pooler, processes, int(found.read_text().split()[0])


@attack("37", "files, sockets and command lines for another local user", "high")
def another_user(stage: Stage) -> str:
    """A local user without any right looks for readable files, usable sockets and passwords in `ps`."""
    _as_root()
    found = _as(NOBODY, 'find "$1" -type f -readable', str(stage.pooler.home)).stdout.split()
    hold(not found, f"a local user reads {found[:3]}")
    usable = _as(NOBODY, 'find "$1" -type s -writable', str(stage.pooler.home)).stdout.split()
    hold(not usable, f"a local user connects to {usable[:3]}")
    secrets = [PASSWORD, stage.demo.password, *stage.secrets().values()]
    for process in stage.processes():
        line = pathlib.Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
        hold(not any(s in line for s in secrets), "a command line has a secret")
        environ = _as(NOBODY, 'cat "/proc/$1/environ"', str(process.pid))
        hold(environ.returncode != 0, "a local user reads the environment of PgBouncer")
    return "no file, no socket, no secret"


@attack("37b", "--backend with a password", "medium")
def password_on_command_line(stage: Stage) -> str:
    """A local user reads `ps` while the operator writes the password into the address."""
    with contextlib.closing(Pooler(PGBOUNCER=str(stage.program))) as pooler:
        uri = f"postgresql://operator:{PASSWORD}@{stage.server.endpoint}"
        done = pooler.run("up", "--backend", uri, "--units", "1", timeout=60)
        said = done.stdout + done.stderr
        hold(done.returncode != 0, "`pooler up` takes a password in the address without a word")
        hold("PGPASSWORD" in said, f"refused without how to pass it: {said[-200:]}")
        hold(PASSWORD not in said, "the refusal shows the password")
        return " ".join(said.split())[-160:]


# Root's apt configuration is replaced in a mount namespace of the process alone.
_INSECURE = """
set -e
mount --bind "$1/apt" /etc/apt
exec "$2" -c '
import pathlib, sys
sys.path[:0] = [sys.argv[1]]
from pooler import binaries
try:
    print("UNPACKED", binaries._fetched(pathlib.Path(sys.argv[2]), "trixie", print))
except binaries.Missing as error:
    print("REFUSED", error)
' "$3" "$1/cache"
"""


@attack("38", "an unsigned mirror that the machine's apt accepts", "low")
def unsigned_mirror(stage: Stage) -> str:
    """A mirror serves an unsigned PgBouncer, and the machine's own apt settings allow that."""
    _as_root()
    for tool in ("unshare", "dpkg-deb", "apt-get"):
        if not shutil.which(tool):
            raise NotRun(f"there is no {tool}")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        _mirror(folder / "mirror")
        apt = folder / "apt"
        for part in (
            "apt.conf.d",
            "sources.list.d",
            "preferences.d",
            "trusted.gpg.d",
            "auth.conf.d",
        ):
            (apt / part).mkdir(parents=True)
        (apt / "sources.list").write_text(f"deb file:{folder}/mirror trixie main\n")
        (apt / "apt.conf.d" / "99insecure").write_text(
            'Acquire::AllowInsecureRepositories "true";\n'
            'Acquire::AllowDowngradeToInsecureRepositories "true";\n'
            'APT::Get::AllowUnauthenticated "true";\n'
        )
        done = subprocess.run(
            [
                "unshare",
                "-m",
                "sh",
                "-c",
                _INSECURE,
                "sh",
                str(folder),
                sys.executable,
                str(ROOT / "src"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=os.environ | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        said = done.stdout + done.stderr
        unpacked = list((folder / "cache").rglob("pgbouncer"))
        hold(not unpacked and "UNPACKED" not in said, "an unsigned package is unpacked")
        hold("REFUSED" in said, f"not tried: {said[-300:]}")
        hold(
            "signed" in said or "authenticat" in said, f"refused for another reason: {said[-300:]}"
        )
        return " ".join(said.split())[-160:]


def _mirror(root: pathlib.Path) -> None:
    """A repository of a single package without a signature."""
    content = root / "content"
    (content / "DEBIAN").mkdir(parents=True)
    (content / "usr/sbin").mkdir(parents=True)
    (content / "usr/sbin/pgbouncer").write_text("#!/bin/sh\necho PgBouncer 1.99\n")
    machine = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    control = (
        f"Package: pgbouncer\nVersion: 1.99\nArchitecture: {machine}\n"
        "Maintainer: Mallory <m@example.com>\nDescription: not PgBouncer\n"
    )
    (content / "DEBIAN/control").write_text(control)
    index = root / "dists/trixie/main" / f"binary-{machine}"
    index.mkdir(parents=True)
    package = root / "pgbouncer.deb"
    subprocess.run(["dpkg-deb", "-b", str(content), str(package)], check=True, capture_output=True)
    data = package.read_bytes()
    entry = (
        f"{control}Filename: ./pgbouncer.deb\nSize: {len(data)}\n"
        f"SHA256: {hashlib.sha256(data).hexdigest()}\n\n"
    )
    (index / "Packages").write_text(entry)
    digest = hashlib.sha256(entry.encode()).hexdigest()
    (root / "dists/trixie/Release").write_text(
        f"Suite: trixie\nCodename: trixie\nComponents: main\nArchitectures: {machine}\n"
        f"SHA256:\n {digest} {len(entry)} main/binary-{machine}/Packages\n"
    )
    shutil.rmtree(content)
