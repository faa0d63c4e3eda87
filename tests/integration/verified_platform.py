"""A unit that runs the hooks as under Juju, with a real PgBouncer, in front of a PostgreSQL with TLS."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pydantic
from ports import free_port
from postgresql import ADMIN, PASSWORD

import wiring
from adapters.connections.authorities import authorities
from adapters.local.facts import LocalFacts
from adapters.local.model import Model, related
from adapters.local.pooler import LocalPooler
from adapters.local.run_as import pooler_owner
from adapters.pgbouncer.console import PsycopgConsoles
from domain.backend import BackendLogin
from domain.endpoints import endpoints_in
from domain.instances import Layout
from domain.status import assess
from domain.tls import certificates_in
from listening import Listening

if TYPE_CHECKING:
    from collections.abc import Generator

    from authority import Issued

UNIT = "pgbouncer/0"


def told(*texts: str) -> tuple[str, ...]:
    """Return the certificates in PEM texts."""
    return tuple(found for text in texts for found in certificates_in(text))


class VerifiedPlatform:
    """A single unit that leads."""

    def __init__(self, program: pathlib.Path, home: pathlib.Path, **options: object) -> None:
        self.program, self.port = program, free_port()
        self.layout = Layout(
            root=str(home / "unit"), sockets=str(home / "run"), listen_address="127.0.0.1",
            with_pid_files=True,
        )  # fmt: skip
        common = {"listen_port": self.port, "pool_mode": "transaction", "max_db_connections": 20}
        self.model = Model(options=common | options)
        self.model.add_unit("127.0.0.1")
        for name in ("peers_created", "leader_elected", "config_changed", "start", "pebble_ready"):
            self.hook(name)

    def hook(self, name: str, *arguments: object) -> Any:
        """Run a hook as a process of its own would."""
        silent: dict[Any, str] = {}
        application = wiring.on_machine(
            self.model, UNIT, self.program, self.layout, pooler_owner(), silent
        )
        return getattr(application, name)(*arguments)

    def tell(
        self,
        endpoints: str,
        *tls_ca: str,
        tls: bool = True,
        readers: str = "",
        received: str = "",
    ) -> None:
        """PostgreSQL's charm writes its databag, and the hook for that runs."""
        found = authorities(told(*tls_ca), told(received))
        login = BackendLogin(
            user=ADMIN,
            password=pydantic.SecretStr(PASSWORD),
            database="postgres",
            endpoints=endpoints_in(endpoints),
            read_only=endpoints_in(readers),
            tls=tls,
            authorities=found.certificates if tls else (),
            rooted=found.rooted and tls,
        )
        self.model.backend = related(login)
        self.hook("backend_changed")

    def relate(self, database: str = "shop") -> int:
        """An application asks for a database, and gets it."""
        number = self.model.relate("shop", database)
        for _ in range(3):
            self.hook("clients_changed")
            if self.model.clients[number].told:
                break
        return number

    @property
    def status(self) -> str:
        """Return the sentences of the status."""
        facts = LocalFacts(self.model, UNIT, self.layout, self.pooler.read).read()
        return "\n".join(sentence.text for sentence in assess(facts))

    @property
    def pooler(self) -> LocalPooler:
        """Return the processes."""
        return LocalPooler(self.program, self.layout, pooler_owner())

    def settings(self) -> dict[str, str]:
        """Return what SHOW CONFIG shows."""
        assert self.model.auth
        consoles = PsycopgConsoles(self.layout.socket_directory)
        with consoles.open(0, self.port, self.model.auth) as console:
            return dict(console.settings())

    def servers(self) -> list[dict[str, str]]:
        """Return the rows of SHOW SERVERS of the client's databases."""
        auth = self.model.auth
        assert auth
        with psycopg.connect(
            host=self.layout.socket_directory(0), port=self.port, user=auth.admin_user,
            password=auth.admin_password.get_secret_value(), dbname="pgbouncer", autocommit=True,
        ) as console:  # fmt: skip
            cursor = psycopg.ClientCursor(console).execute("SHOW SERVERS")
            names = [column.name for column in cursor.description or ()]
            return [
                {name: str(value) for name, value in zip(names, row, strict=True)}
                for row in cursor.fetchall()
            ]

    def client(self, number: int = 1, database: str = "", seconds: int = 5) -> Any:
        """Return a connection of an application."""
        record = self.model.clients[number]
        assert record.password, self.status
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=f"relation_id_{number}",
            password=record.password.get_secret_value(), dbname=database or record.database,
            connect_timeout=seconds, autocommit=True, prepare_threshold=None,
        )  # fmt: skip

    def close(self) -> None:
        """End the processes."""
        self.pooler.stop_at_once()


class ManInTheMiddle(Listening):
    """A server with a certificate of its own, which records all that is sent to it over TLS or without."""

    def __init__(self, issued: Issued, host: str = "127.0.0.1", port: int = 0) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(issued.certificate, issued.key)
        self.handshakes, self.received = 0, b""
        super().__init__(self._answer, host, port)
        self.endpoint = f"{host}:{self.port}"

    def _answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(5)
            if client.recv(8)[4:] != b"\x04\xd2\x16\x2f":
                self.received += b"a login without TLS"
                return
            client.sendall(b"S")
            self.handshakes += 1
            with self._context.wrap_socket(client, server_side=True) as encrypted:
                self.received += encrypted.recv(4096)


class Workload:
    """Clients that run transactions all the time, and what went wrong."""

    def __init__(self, platform: VerifiedPlatform, clients: int = 4) -> None:
        self._platform = platform
        self.done = 0
        # When each failure happened, and what it says.
        self.failures: list[tuple[float, str]] = []
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]

    def _run(self, number: int) -> None:
        while not self._ending.is_set():
            try:
                with self._platform.client(seconds=30) as client:
                    self._transactions(client, number)
            except (psycopg.Error, AssertionError) as error:
                self.failures.append((time.time(), str(error)))
                time.sleep(0.1)

    def _transactions(self, client: Any, number: int) -> None:
        while not self._ending.is_set():
            with client.transaction():
                client.execute("SELECT 1")
                if number % 2:
                    client.execute("SELECT pg_sleep(0.05)")
            self.done += 1
            time.sleep(0.01)

    def goes_on(self) -> None:
        """Wait until every client has run further transactions."""
        end, goal = time.monotonic() + 20, self.done + 100
        while self.done < goal:
            assert time.monotonic() < end, (self.failures, self._platform.status)
            time.sleep(0.02)

    def __enter__(self) -> Workload:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def running(platform: VerifiedPlatform) -> Generator[VerifiedPlatform]:
    """End the processes of a platform at the end."""
    try:
        yield platform
    finally:
        platform.close()
