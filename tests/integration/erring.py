"""A unit whose clients get errors: a PgBouncer process that the charm's own code configures, and PostgreSQL."""

from __future__ import annotations

import contextlib
import pathlib
import signal
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pydantic
from ports import free_port
from postgresql import PostgreSQL
from psycopg.rows import dict_row

from adapters.client_certificate import read_certificate
from adapters.local.pooler import LocalPooler
from adapters.local.run_as import pooler_owner
from attacks.packets import SSL_REQUEST, Closed, Refused, Scram, Wire, error_in, startup
from authority import Authority, self_signed
from contract.unit import eventually
from domain.certificate_logins import CertificateLogin, TrustedLogin
from domain.change import change_to
from domain.client_tls import ClientTls
from domain.instances import PoolerConfig, pooler_config
from domain.layout import Layout
from domain.plan import Member, Plan, Upstream
from domain.settings import Settings
from domain.tls import ServedPair, certificates_in
from logins import CLIENT_PASSWORD, OWN, login, material

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, DATABASE = "relation_id_1", "shop"
# A user of another database.
STRANGER, ELSEWHERE = "relation_id_2", "bank"
# A user that logs in by a certificate.
CERTIFIED = "relation_id_3"


class Said(NamedTuple):
    """An error or a notice as a client gets it; severity and code are '' for what a driver says."""

    severity: str
    code: str
    text: str


def said_by(refused: Refused) -> Said:
    """Return the error that a login or a statement ended with."""
    severity, code, text = str(refused).split(" ", 2)
    return Said(severity, code, text)


class Client(Wire):
    """A client of PgBouncer that reads every error and notice."""

    def hear(self) -> Said:
        """Return the next error or notice. Raises Closed."""
        while True:
            kind, body = self.receive()
            if kind in (b"E", b"N"):
                return said_by(Refused(error_in(body)))

    def welcome(self) -> Said:
        """Return the error that the login ends with, or a Said without words if it succeeds."""
        try:
            self.ready()
        except Refused as refused:
            return said_by(refused)
        return Said("", "", "")

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Ask for TLS, and begin it."""
        self.send(SSL_REQUEST)
        assert self.socket.recv(1) == b"S"
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")

    def synced(self) -> None:
        """Read up to ReadyForQuery."""
        while self.receive()[0] != b"Z":
            pass


class Server(PostgreSQL):
    """A PostgreSQL server with few slots for connections, from this folder with initdb and postgres."""

    def __init__(self, programs: pathlib.Path | None = None) -> None:
        super().__init__(settings={"max_connections": "16"}, programs=programs)

    def answers(self) -> bool:
        """Return whether the server runs a query."""
        try:
            return self.sql("SELECT 1") == [(1,)]
        except psycopg.Error:
            return False

    @contextlib.contextmanager
    def admitting(self, user: str) -> Iterator[None]:
        """Let no user log in but this user and the superuser."""
        self._write_hba([])
        file = self._data / "pg_hba.conf"
        before = file.read_text()
        file.write_text(before.replace("host all all", f"host all {user}"))
        self.sql("SELECT pg_reload_conf()")
        eventually(lambda: not self._admits())
        try:
            yield
        finally:
            file.write_text(before)
            self.sql("SELECT pg_reload_conf()")
            eventually(self._admits)

    @contextlib.contextmanager
    def starting_up(self) -> Iterator[None]:
        """Restart PostgreSQL, and let its start wait for an archive of WAL that does not answer."""
        recovery = self._data / "recovery.signal"
        self.stop(signal.SIGQUIT)
        recovery.touch()
        self._own(recovery)
        self._settings["restore_command"] = "sleep 60"
        self._launch()
        try:
            eventually(lambda: "starting up" in self.refusal())
            yield
        finally:
            self.stop(signal.SIGQUIT)
            recovery.unlink()
            del self._settings["restore_command"]
            self.start()

    def refusal(self) -> str:
        """Return why PostgreSQL refuses a login; '' if it does not."""
        try:
            self.connect().close()
        except psycopg.OperationalError as error:
            return str(error)
        return ""

    def _admits(self) -> bool:
        try:
            self.connect(ELSEWHERE, STRANGER, CLIENT_PASSWORD).close()
        except psycopg.OperationalError:
            return False
        return True


class Erring:
    """A process in front of a server that has two clients with a database each."""

    def __init__(self, program: pathlib.Path, server: Server, home: pathlib.Path) -> None:
        self.server, self.port = server, free_port()
        self._ending = False
        self.layout = Layout(
            root=str(home / "unit"), sockets=str(home / "run"), listen_address="127.0.0.1",
            with_pid_files=True,
        )  # fmt: skip
        self.pooler = LocalPooler(program, self.layout, pooler_owner())
        self.program = self.pooler.program().model_copy(update={"cpus": 1})
        version = self.program.version
        self.version = (version.major, version.minor)
        authority = Authority(home / "authority")
        self.root = authority.root
        issued = authority.issue("unit", "127.0.0.1")
        self.pair = ServedPair(
            key=pydantic.SecretStr(issued.key.read_text()),
            chain=certificates_in(issued.certificate.read_text()),
            authorities=certificates_in(self.root.read_text()),
        )
        self.stranger = self_signed(home, "stranger", "stranger", ca=True)
        self.certificate = self_signed(home, CERTIFIED, CERTIFIED)
        self.auth = material().with_clients((login(CERTIFIED),))

    def config(
        self,
        *,
        databases: tuple[str, ...] = (DATABASE, ELSEWHERE),
        files: int = 0,
        encrypted: bool = False,
        certified: bool = False,
        server_host: str = "127.0.0.1",
        **options: object,
    ) -> PoolerConfig:
        """Return what the charm renders with these options.

        `files` is the limit of open files. With `certified` a client logs in by its certificate.
        """
        settings = Settings.model_validate(
            {"listen_port": self.port, "max_db_connections": 4} | options
        )
        known = read_certificate(self.certificate.certificate.read_text())
        login = CertificateLogin(username=CERTIFIED, name=known.name, certificate=known.text)
        plan = Plan(
            settings=settings,
            members=(Member(name="p/0", address="127.0.0.1", share=settings.max_db_connections),),
            upstream=Upstream(
                endpoints=(self.server.endpoint.model_copy(update={"host": server_host}),),
                auth_database=OWN,
                auth_user=self.auth.auth_user,
                auth_schema=self.auth.auth_user,
            ),
            databases=databases,
            certificate_logins=(login,) if certified else (),
        )
        return pooler_config(
            plan,
            "p/0",
            self.program.model_copy(update={"files": files or self.program.files}),
            self.layout,
            self.auth if certified else self.auth.with_clients(()),
            tls=ClientTls(
                pair=self.pair if encrypted or certified else None,
                trusted=(TrustedLogin(username=CERTIFIED, name=known.name, since=1.0),),
                now=1e6,
            ),
        )

    def set(self, *lines: tuple[str, str], **how: Any) -> None:
        """Let the process run with `config`; start it if it does not run.

        `lines` stand in place of lines that no option changes, so that a test need not wait for a minute.
        """
        config = self.config(**how)
        (instance,) = config.instances
        settings = tuple({**dict(instance.settings), **dict(lines)}.items())
        changed = config.with_instances([instance.model_copy(update={"settings": settings})])
        now = self.pooler.read()
        self.pooler.apply(change_to(changed, self.program, now.applied, now.running))

    def restore(self) -> None:
        """Let a process serve with the default options."""
        if not self._ending:
            self.set()
            if self._serves():
                return
        # A new process does not remember that its last login to PostgreSQL failed.
        self.pooler.stop_at_once()
        self._ending = False
        self.set()
        eventually(self._serves)

    def _serves(self) -> bool:
        try:
            with self.connect() as client:
                client.socket.settimeout(3)
                client.log_in(CLIENT_PASSWORD, user=USER, database=DATABASE)
                return client.ask("SELECT 1") == [["1"]]
        except (Refused, Closed, TimeoutError):
            return False

    def command(self, text: str) -> list[dict[str, Any]]:
        """Run a command on the console as the admin user; return its rows."""
        self._ending |= text.startswith("SHUTDOWN")
        with psycopg.connect(
            host=self.layout.socket_directory(0), port=self.port, dbname="pgbouncer",
            user=self.auth.admin_user, password=self.auth.admin_password.get_secret_value(),
            autocommit=True, row_factory=dict_row,
        ) as console:  # fmt: skip
            found = console.execute(text.encode())
            return found.fetchall() if found.description else []

    @contextlib.contextmanager
    def console(self, text: str, undo: str) -> Iterator[None]:
        """Run a command on the console, and another command at the end."""
        self.command(text)
        try:
            yield
        finally:
            self.command(undo)

    @contextlib.contextmanager
    def altered(self, change: str, undo: str, database: str = "postgres") -> Iterator[None]:
        """Run a statement in PostgreSQL, and another statement at the end."""
        self.server.sql(change, database=database)
        try:
            yield
        finally:
            self.server.sql(undo, database=database)

    def without_server_connections(self, database: str = DATABASE) -> None:
        """Close the server connections to a database."""
        self.command(f"KILL {database}")
        self.command(f"RESUME {database}")

    def kill_clients(self) -> None:
        """Disconnect every client of USER by the console's KILL_CLIENT."""
        for row in self.command("SHOW CLIENTS"):
            if row["user"] == USER:
                self.command(f"KILL_CLIENT {row.get('id', row['ptr'])}")

    def until_a_client_waits(self) -> None:
        """Wait until a client waits for a server connection."""
        eventually(lambda: any(row["cl_waiting"] for row in self.command("SHOW POOLS")))

    def until_the_server_runs(self, words: str) -> None:
        """Wait until PostgreSQL runs a statement with these words for USER."""
        query = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND usename = %s AND query ~ %s"
        eventually(lambda: self.server.sql(query, (USER, words)))

    @contextlib.contextmanager
    def closing(self, listener: socket.socket) -> Iterator[None]:
        """Close each connection that a listener gets."""
        ended = threading.Event()
        listener.settimeout(0.05)

        def close() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    listener.accept()[0].close()

        thread = threading.Thread(target=close)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def connect(self) -> Client:
        """Return a connection that has sent nothing."""
        return Client(("127.0.0.1", self.port), 20)

    @contextlib.contextmanager
    def client(
        self,
        user: str = USER,
        database: str = DATABASE,
        password: str = CLIENT_PASSWORD,
        **more: str,
    ) -> Iterator[Client]:
        """Yield a client that has logged in. Raises Refused."""
        with self.connect() as client:
            client.log_in(password, user=user, database=database, **more)
            yield client

    @contextlib.contextmanager
    def half_logged_in(self) -> Iterator[tuple[Client, bytes]]:
        """Yield a client of USER that has not sent the proof of its password, and the proof."""
        scram = Scram(CLIENT_PASSWORD)
        with self.connect() as client:
            challenge = client.challenge(scram, user=USER, database=DATABASE)
            yield client, scram.final(challenge)

    def login(
        self,
        user: str = USER,
        database: str = DATABASE,
        password: str = CLIENT_PASSWORD,
        **more: str,
    ) -> Said:
        """Return why a login is refused."""
        try:
            with self.client(user, database, password, **more):
                pass
        except Refused as refused:
            return said_by(refused)
        raise AssertionError(f"{user} logs in to {database}")

    def login_by_certificate(self, database: str, *, own: bool) -> Said:
        """Return why CERTIFIED is refused, with its own certificate or without a certificate."""
        context = ssl.create_default_context(cafile=str(self.root))
        if own:
            context.load_cert_chain(self.certificate.certificate, self.certificate.key)
        with self.connect() as client:
            client.encrypt(context)
            client.send(startup(user=CERTIFIED, database=database))
            return client.hear()

    def login_that_fails_at_once(self) -> Said:
        """Return why a login is refused when a login before it has found that the server refuses PgBouncer."""
        last = Said("", "", "")

        def failing() -> bool:
            nonlocal last
            with self.connect() as client:
                client.socket.settimeout(0.3)
                with contextlib.suppress(TimeoutError):
                    try:
                        client.log_in(CLIENT_PASSWORD, user=USER, database=DATABASE)
                    except Refused as refused:
                        last = said_by(refused)
            # A KILL before may have ended a login of PgBouncer: that is the reason until its next attempt.
            return "cached error" in last.text and "pause mode" not in last.text

        eventually(failing)
        # PgBouncer cuts the message at 127 bytes.
        if len(last.text) == 127:
            end = " (server_login_retry)"
            there = max(size for size in range(len(end)) if last.text.endswith(end[:size]))
            last = last._replace(text=last.text + end[there:])
        return last
