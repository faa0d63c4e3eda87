"""The plan that the leader shares with all units, and the report of a unit on what it serves."""

from collections.abc import Iterable
from typing import Annotated, Literal

import pydantic

from domain.certificate_logins import CertificateLogin
from domain.endpoints import Address, Endpoint, Port
from domain.operations import ALL, KillOrder, Pause
from domain.rotation import EndedLogin
from domain.settings import Settings
from domain.tls import Certificate, ServerMode
from domain.value import Count, Empty, Line, Name, Value, stored_as

# The names by which PgBouncer looks passwords up, for each of the two roles that take turns.
AuthAlias = Literal["pgbouncer_auth", "pgbouncer_auth_2"]
AUTH_ALIASES: tuple[AuthAlias, AuthAlias] = ("pgbouncer_auth", "pgbouncer_auth_2")

# The schema of the function that looks up passwords in the releases before the schema had the auth user's name.
FORMER_AUTH_SCHEMA = "pgbouncer"


class Upstream(Value):
    """The PostgreSQL server that the pools of every unit lead to."""

    endpoints: tuple[Endpoint, ...] = pydantic.Field(min_length=1)
    read_only: tuple[Endpoint, ...] = ()
    # The database with the function that looks up passwords, and the role that calls it.
    auth_database: Line
    auth_user: Line
    # The schema of that function.
    auth_schema: Line = FORMER_AUTH_SCHEMA
    # The name by which that role looks passwords up. A name never gets another role: PgBouncer 1.26.1 ends with
    # `put_in_order: found existing elem` after a RELOAD that gives a database with connections another `user`.
    auth_alias: AuthAlias = AUTH_ALIASES[0]
    # The role that called it before, by the other name, while look-ups that have begun may still use it; '' if
    # there is none.
    former_auth_user: Line | Empty = ""
    version: str = ""
    # How PgBouncer verifies the server, and the authorities by which it does.
    mode: ServerMode = "prefer"
    authorities: tuple[Certificate, ...] = ()
    # A file of the machine that takes the place of these authorities; '' if there is none.
    authority_file: Line | Empty = ""
    # Identifies the server that answers at the endpoints; it changes with the server and with each restart.
    server_id: Annotated[str, stored_as("server")] = ""

    def with_single_hosts(self, place: int) -> "Upstream":
        """Return this server with its first endpoint, and the replica that `place` chooses."""
        replica = self.read_only[place % len(self.read_only)] if self.read_only else None
        return self.model_copy(
            update={
                "endpoints": self.endpoints[:1],
                "read_only": (replica,) if replica else (),
            }
        )


class Member(Value):
    """A unit of the application."""

    name: str
    address: Address
    # Processors that the processes of the unit may use; 0 until the unit has reported them.
    processors: Count = 0
    # Connections to a database that the unit may have; without meaning if max_db_connections is 0.
    share: Count = 0
    # Connections to a database that the unit may still have from before, if they are more than `share`; else 0.
    # The report of a unit ends with the unit, so the plan keeps what a successor of the leader has to know.
    held: Count = 0
    # The number of `Plan.restarts` with which the unit may restart its processes. Units restart in turn.
    restarts: Count = 0

    @property
    def most(self) -> int:
        """Return the most connections to a database that the unit may have."""
        return max(self.share, self.held)


class DepartedUnit(Value):
    """A unit that is no member any more, and whose last transactions may still run."""

    name: str
    address: Address
    # Connections to a database that the unit may still have.
    held: Count

    def at(self, address: str) -> "DepartedUnit":
        """Return this unit with the address that it has now."""
        return self.model_copy(update={"address": address})


class Plan(Value):
    """The decisions of the leader for all units. A follower configures its processes from the plan alone."""

    settings: Settings
    # Ordered by the numbers of the units.
    members: tuple[Member, ...]
    leavers: tuple[DepartedUnit, ...] = ()
    upstream: Upstream | None = None
    databases: tuple[Name, ...] = ()
    # Earlier releases wrote true for pools that led every name to a database. It is always false now.
    any_database: Annotated[bool, stored_as("everywhere")] = False
    # Databases that clients made: idle server connections to them end after SHORT_LIFETIME.
    short_lived: tuple[Name, ...] = ()
    # Two sets of processes take turns when the port changes: a new port opens before the old port closes.
    process_set: Annotated[Literal[0, 1], stored_as("lane")] = 0
    # A port of the other set of processes, which stays open until every client has read the new port.
    former_port: Port | None = None
    # Every user that has or had an override: after a reload PgBouncer keeps the settings of an unlisted user.
    known_users: tuple[Name, ...] = ()
    # Whether clients are told that every unit serves TLS, and the authorities by which they verify units.
    tls: bool = False
    client_authorities: tuple[Certificate, ...] = ()
    # The clients that log in by a certificate.
    certificate_logins: tuple[CertificateLogin, ...] = ()
    # Whether users whose passwords PostgreSQL stores as MD5 hashes can log in.
    md5_logins: bool = False
    # The pauses that an operator asked for.
    paused: tuple[Pause, ...] = ()
    # Databases that no client may log in to, until an operator enables them.
    disabled: tuple[Name, ...] = ()
    # How often an operator asked to restart every process, and to replace every server connection.
    restarts: Count = 0
    reconnects: Count = 0
    # The last order to disconnect clients.
    kills: KillOrder = KillOrder()
    # Users whose former credentials have ended at once, until every unit has disconnected their clients.
    ended_logins: tuple[EndedLogin, ...] = ()
    # How often the plan got something that a unit has to serve before a client is told of it.
    revision: Count = 0

    @property
    def paused_databases(self) -> tuple[str, ...]:
        """Return the databases that are paused, sorted; `(ALL,)` if all are."""
        names = {pause.database for pause in self.paused}
        return (ALL,) if ALL in names else tuple(sorted(names))

    @property
    def ports(self) -> tuple[int, ...]:
        """Return every port that is open, first that of the settings."""
        port = self.settings.listen_port
        return (port,) if self.former_port is None else (port, self.former_port)

    def share_of(self, unit: str) -> int:
        """Return the part of max_db_connections that a unit has; 0 for a unit that is no member."""
        return next((member.share for member in self.members if member.name == unit), 0)

    def restarts_of(self, unit: str) -> int:
        """Return the number of the restart that a unit may carry out; for a unit that is no member, the last."""
        known = (member.restarts for member in self.members if member.name == unit)
        return next(known, self.restarts)

    def serves_by(self, unit: str) -> bool:
        """Return whether this unit has connections enough to serve clients."""
        return not self.settings.max_db_connections or self.share_of(unit) > 0

    def with_known_databases(self, requested: Iterable[str]) -> "Plan":
        """Return this plan without the orders of an operator for databases without a pool or a request.

        Without PostgreSQL no database has a pool, and the orders count again with the next PostgreSQL.
        """
        known = {ALL, *self.databases, *requested}
        update = {
            "paused": tuple(pause for pause in self.paused if pause.database in known),
            "disabled": tuple(name for name in self.disabled if name in known),
        }
        return self.model_copy(update=update)

    def pausing(self, paused: tuple[Pause, ...]) -> "Plan":
        """Return this plan with these pauses in place of its own."""
        return self.model_copy(update={"paused": paused})

    def disabling(self, databases: Iterable[str]) -> "Plan":
        """Return this plan in which no client may log in to these databases."""
        return self.model_copy(update={"disabled": tuple(sorted({*databases}))})

    def restarting(self, number: int) -> "Plan":
        """Return this plan with the number of the last order to restart."""
        return self.model_copy(update={"restarts": number})

    def reconnecting(self, number: int) -> "Plan":
        """Return this plan with the number of the last order to replace server connections."""
        return self.model_copy(update={"reconnects": number})

    def killing(self, order: KillOrder) -> "Plan":
        """Return this plan with the last order to disconnect clients."""
        return self.model_copy(update={"kills": order})

    def supporting(
        self, settings: Settings, known_users: tuple[Name, ...], short_lived: tuple[Name, ...]
    ) -> "Plan":
        """Return this plan with the settings, users and databases that a version of PgBouncer supports."""
        update = {"settings": settings, "known_users": known_users, "short_lived": short_lived}
        return self.model_copy(update=update)

    def after(self, before: "Plan") -> "Plan":
        """Return this plan with its revision; `before` is the plan that it replaces."""
        return self.model_copy(update={"revision": before.revision + self._adds_to(before)})

    def _adds_to(self, before: "Plan") -> bool:
        """Return whether units serve something by this plan that they may not serve by the plan before."""
        mine, former = self.settings, before.settings
        changed = (
            mine.listen_port != former.listen_port
            or mine.client_tls_sslmode != former.client_tls_sslmode
            or mine.max_db_connections != former.max_db_connections
        )
        logins, known = self.certificate_logins, before.certificate_logins
        return (
            changed
            or not {*self.databases}.issubset(before.databases)
            or not {login.username for login in logins}.issubset(login.username for login in known)
            or any(member.share > before.share_of(member.name) for member in self.members)
            or _adds_servers(self.upstream, before.upstream)
        )

    def with_single_hosts(self, place: int) -> "Plan":
        """Return this plan in which every pool has a single host; `place` chooses the replica."""
        upstream = self.upstream.with_single_hosts(place) if self.upstream else None
        return self.model_copy(update={"upstream": upstream})

    def without_upstream(self) -> "Plan":
        """Return this plan without a server and without databases."""
        return self.model_copy(update={"upstream": None, "databases": (), "short_lived": ()})


def share(total: int, parts: int, index: int) -> int:
    """Return part `index` of `total`. All parts add up to `total`, and differ by 1 at most."""
    return total // parts + (index < total % parts)


class Serving(Value):
    """What the PgBouncer processes of a unit serve at present, as the unit reports it to its peers."""

    port: Port
    # Names of databases as clients use them.
    databases: tuple[str, ...] = ()
    # Processors that the processes may use.
    processors: Count = 0
    # The processes serve TLS.
    tls: bool = False
    # The authorities of the certificate that the processes serve, and of the next certificate.
    authorities: tuple[Certificate, ...] = ()
    # The users who can log in by a certificate.
    certificate_users: tuple[str, ...] = ()
    # The generation of the passwords of PgBouncer's own users that the processes have, and the auth user that they
    # use; 0 and '' before the first change of these passwords.
    credentials: Count = 0
    auth_user: str = ""
    # The revision of the plan that the processes serve; None in the report of a release without revisions.
    revision: Count | None = None

    def is_of(self, plan: Plan) -> bool:
        """Return whether this report is newer than what the plan got last.

        Juju drops what a hook has reported that was killed. So an older report may have a database that the unit
        serves no more, because the database had left the plan for a time.
        """
        return self.revision in (None, plan.revision)

    def encrypted(self, authorities: tuple[Certificate, ...]) -> "Serving":
        """Return this report of a unit that serves TLS with a certificate of these authorities."""
        return self.model_copy(update={"tls": True, "authorities": authorities})

    def admitting(self, certificate_users: tuple[str, ...]) -> "Serving":
        """Return this report of a unit where these users can log in by a certificate."""
        return self.model_copy(update={"certificate_users": certificate_users})

    def with_credentials(self, generation: int, auth_user: str) -> "Serving":
        """Return this report of a unit whose processes have these passwords and use this auth user."""
        return self.model_copy(update={"credentials": generation, "auth_user": auth_user})

    def announcing(self, authorities: tuple[Certificate, ...]) -> "Serving":
        """Return this report with further authorities, e.g. those of the next certificate."""
        every = tuple(dict.fromkeys((*self.authorities, *authorities)))
        return self.model_copy(update={"authorities": every})

    def serves(self, database: str, port: int) -> bool:
        """Return whether a client of this database can log in at this port."""
        return port == self.port and database in self.databases


def _adds_servers(now: Upstream | None, before: Upstream | None) -> bool:
    """Return whether pools lead to servers that they may not have led to.

    Each relation with PostgreSQL has its own auth user.
    """
    if now is None or before is None:
        return now is not None
    return now.auth_user != before.auth_user or len(now.read_only) > len(before.read_only)
