"""What does the application need from outside? Ports, named by role.

Effects that return a bool return whether anything changed. All of them are idempotent.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import pydantic

from domain.applied import AppliedState, Step
from domain.budget import UnitBudget
from domain.capabilities import PgBouncerRuntime
from domain.consent import Holding, Reach
from domain.console import PooledDatabase, PoolState
from domain.facts import BackendLogin, Facts, Ledger
from domain.instances import PoolerConfig
from domain.made import Made
from domain.pools import Plan, Serving
from domain.users import AccessRequest, AuthMaterial, Grant, Login, Offer

NewPassword = Callable[[], pydantic.SecretStr]


class FactsSource(Protocol):
    """Where facts come from."""

    def read(self) -> Facts:
        """Take one frozen look."""
        ...


class Pooler(Protocol):
    """The PgBouncer processes of this unit. Every method may raise PoolerFailed."""

    def program(self) -> PgBouncerRuntime:
        """Ask the program itself, and what it may take of its machine."""
        ...

    def apply(self, config: PoolerConfig, applied: AppliedState, steps: tuple[Step, ...]) -> None:
        """Write the files, take the steps in their order, and remember `applied` last of all.

        A configuration that PgBouncer refuses is taken back, and the error says which line it was.
        """
        ...

    def remember(self, applied: AppliedState) -> None:
        """Keep this in place of what was remembered."""
        ...


class Console(Protocol):
    """The console of one process. Every method may raise ConsoleFailed."""

    def databases(self) -> tuple[PooledDatabase, ...]:
        """What the process has of each database."""
        ...

    def pools(self) -> tuple[PoolState, ...]:
        """What its pools are doing."""
        ...

    def shed(self, seconds: float, *, reconnect: bool) -> tuple[PooledDatabase, ...]:
        """Connections above a limit end; waits for so many seconds at most. Returns what is left.

        With `reconnect` those that are never idle end, too, each with its transaction, or its session.
        """
        ...

    def reconnect(self) -> None:
        """Every connection to PostgreSQL ends with its transaction, and others take their place."""
        ...

    def pause(self, seconds: float) -> bool:
        """Nothing new begins; whether all that was open has ended after so many seconds at most."""
        ...

    def resume(self) -> None:
        """What waits goes on."""
        ...

    def kill(self, alias: str) -> None:
        """All connections of this pool end at once, and nothing new begins until it is resumed."""
        ...


class Consoles(Protocol):
    """The consoles of this unit's processes, each by a socket of its own."""

    def open(self, index: int, port: int, auth: AuthMaterial) -> AbstractContextManager[Console]:
        """Log in as the admin user. Raises ConsoleFailed."""
        ...


class Peers(Protocol):
    """What units tell one another. The first three are the leader's, for the application."""

    def share(self, plan: Plan) -> bool:
        """Tell all units what to do."""
        ...

    def record(self, ledger: Ledger) -> bool:
        """Keep the ledger where the next leader finds it."""
        ...

    def name_leader(self, address: str) -> bool:
        """Tell all units where the leader is."""
        ...

    def announce(self, address: str, serving: Serving | None, stake: UnitBudget) -> bool:
        """Tell where this unit is, what it serves, and its part of max_db_connections."""
        ...


class Secrets(Protocol):
    """Where the passwords of PgBouncer's own users are kept, for all units to read."""

    def store(self, auth: AuthMaterial) -> bool:
        """Keep them."""
        ...

    def forget(self) -> bool:
        """Remove them."""
        ...


class Backend(Protocol):
    """The relation with PostgreSQL."""

    def request(self) -> bool:
        """Ask for a database and a user that may make others."""
        ...


class Clients(Protocol):
    """The applications that asked for a database."""

    def password(self, request: AccessRequest) -> pydantic.SecretStr | None:
        """The password that a client was told, None if it was told none."""
        ...

    def publish(self, request: AccessRequest, offer: Offer, credentials: Login | None) -> bool:
        """Tell a client how to connect; without credentials it keeps those that it has."""
        ...

    def withdraw(self, request: AccessRequest) -> bool:
        """Take back all that a client was told."""
        ...

    def forget(self, grant: Grant) -> bool:
        """Remove what was kept for a client that has gone."""
        ...


class Departures(Protocol):
    """Who is leaving."""

    def flag(self) -> bool:
        """Note in this unit's part of every relation that it is leaving."""
        ...


class Exposure(Protocol):
    """How clients reach all units by one name.

    May raise ExposureForbidden and ExposureFailed.
    """

    def expose(self, ports: tuple[int, ...]) -> bool:
        """Lead that name to these ports, and no others, of every unit that is ready."""
        ...


class Database(Protocol):
    """An open conversation with PostgreSQL. Every method may raise the errors about databases."""

    def provision(self, auth: AuthMaterial, database: str) -> None:
        """Make the auth user, and in `database` the function by which it looks passwords up.

        An auth user of ours from before is dropped.
        """
        ...

    def server(self) -> str:
        """Which server this is, and since when it runs: the same name may lead to another one."""
        ...

    def capacity(self) -> int:
        """Return the number of connections that PostgreSQL accepts from ordinary users, without reserved slots."""
        ...

    def knows(self, address: str) -> bool:
        """Whether there is a connection from this address."""
        ...

    def users(self) -> frozenset[str]:
        """The client users that this application made."""
        ...

    def lock_out(self, usernames: Iterable[str]) -> dict[str, str]:
        """Take logins and sessions of client users away, without entering a client's database.

        Returns the users that can still log in, each with the reason.
        """
        ...

    def hurry(self) -> None:
        """Wait only a moment for a client's database from now on."""
        ...

    def made(self) -> Made:
        """Return the roles of this application that exist, and the databases that the ledger has."""
        ...

    def reaches(self, roles: Iterable[str], database: str) -> tuple[Reach, ...]:
        """Return the reach of each of these roles, for a client of this database. Raises AccessRefused."""
        ...

    def holdings(self) -> tuple[Holding, ...]:
        """Return every database of the server with its owner."""
        ...

    def close(self, database: str) -> None:
        """Take the right to connect to a database that a client made away from PUBLIC."""
        ...

    def notes(self) -> tuple[str, ...]:
        """Return sentences for the operator about objects that clients left."""
        ...

    def left(self) -> tuple[str, ...]:
        """Return a sentence for everything that stays in PostgreSQL when this application leaves it."""
        ...

    def grant(self, grant: Grant, oid: int = 0) -> bool:
        """Make the user and its database, with the roles asked for.

        Raises AccessRefused; DatabaseBusy if something holds the database; NoTimeLeft.

        A database that existed before is given only if it has this OID: the decision to give it was
        made for that database.

        True as long as the user has no password, without which it cannot log in.
        """
        ...

    def set_password(self, credentials: Login) -> None:
        """Give a user of ours this password."""
        ...

    def revoke(self, username: str) -> None:
        """Drop a client user; its objects stay in its database. Raises the errors of `grant`."""
        ...

    def withdraw(self) -> None:
        """Drop everything that this application made, except databases and the objects in them.

        All client users lose their logins first.
        """
        ...


class Databases(Protocol):
    """The way to PostgreSQL."""

    def open(
        self, backend: BackendLogin, ledger: Ledger | None = None
    ) -> AbstractContextManager[Database]:
        """Log in as the backend's user; `ledger` has the roles that this application made there.

        Raises DatabaseUnreachable or DatabaseRefused.
        """
        ...

    def answers(self, backend: BackendLogin) -> bool:
        """Whether something that speaks PostgreSQL's protocol listens. Quick, without logging in."""
        ...

    def admits(self, backend: BackendLogin, credentials: Login, database: str) -> bool:
        """Return whether these credentials can log in; waits as long as this hook may.

        A new user is let in only when PostgreSQL's own charm has named it in pg_hba.conf.
        """
        ...


class Ports(NamedTuple):
    """All ports of one unit. Each platform fills them."""

    facts: FactsSource
    pooler: Pooler
    consoles: Consoles
    peers: Peers
    secrets: Secrets
    backend: Backend
    clients: Clients
    departures: Departures
    exposure: Exposure
    databases: Databases
    new_password: NewPassword
