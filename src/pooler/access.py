"""How an application connects to its database, in the forms that clients read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import NamedTuple

from domain.endpoints import Endpoint, endpoints_in
from domain.users import (
    Login,
    Offer,
    read_only_unit_uris,
    unit_uris,
    uri,
    username_of,
)
from pooler.arguments import CommandError
from pooler.invocation import Invocation, known_relation
from pooler.platform import LocalPlatform

# Variables of libpq that would lead a command elsewhere, or forbid the login.
_OF_LOGINS = re.compile(
    "PG(?:HOST|HOSTADDR|PORT|DATABASE|USER|PASSWORD|PASSFILE|SERVICE|SERVICEFILE|REALM|SSL.*|GSS.*|KRB.*"
    "|REQUIRE.*|CHANNELBINDING|TARGETSESSIONATTRS|LOADBALANCEHOSTS|M(?:IN|AX)PROTOCOLVERSION)"
)


class Access(NamedTuple):
    """The database of an application, the addresses of the units, and the application's login."""

    offer: Offer
    login: Login

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the endpoint of each unit."""
        return endpoints_in(self.offer.endpoints)

    @property
    def password(self) -> str:
        """Return the password as text."""
        return self.login.password.get_secret_value()

    def fields(self) -> dict[str, str | list[str]]:
        """Return the fields of `pooler credentials`, in the order in which it prints them.

        `uri` and `read-only-uri` have a single host, because few drivers read several.
        """
        uris = unit_uris(self.offer, self.login)
        fields: dict[str, str | list[str]] = {
            "database": self.offer.database,
            "endpoints": self.offer.endpoints,
            "username": self.login.username,
            "password": self.password,
            "uri": uris[0],
            "uris": list(uris),
        }
        if len(uris) > 1:
            fields["libpq-uri"] = uri(self.offer, self.login)
        if readers := read_only_unit_uris(self.offer, self.login):
            fields["read-only-uri"] = readers[0]
        return fields

    def variables(self) -> dict[str, str]:
        """Return the environment variables that frameworks and libpq read, with the first unit's address."""
        return {
            "DATABASE_URL": unit_uris(self.offer, self.login)[0],
            "PGHOST": self.endpoints[0].host,
            "PGPORT": str(self.endpoints[0].port),
            "PGDATABASE": self.offer.database,
            "PGUSER": self.login.username,
            "PGPASSWORD": self.password,
        }

    def libpq_variables(self) -> dict[str, str]:
        """Return the same variables with the addresses of all units, which only libpq reads."""
        return self.variables() | {
            "PGHOST": ",".join(endpoint.host for endpoint in self.endpoints),
            "PGPORT": ",".join(str(endpoint.port) for endpoint in self.endpoints),
        }

    def shell_lines(self) -> str:
        """Return the variables as lines that a shell reads."""
        return "\n".join(f"{name}={shlex.quote(text)}" for name, text in self.variables().items())

    def conninfo(self) -> str:
        """Return a connection string of libpq, KEY=VALUE, with the addresses of all units."""
        known = self.libpq_variables()
        keys = {
            "host": "PGHOST",
            "port": "PGPORT",
            "dbname": "PGDATABASE",
            "user": "PGUSER",
            "password": "PGPASSWORD",
        }
        return " ".join(f"{key}={_conninfo_value(known[name])}" for key, name in keys.items())


def access_of(run: Invocation, name: str) -> Access:
    """Return how an application connects. Raises UsageError if it is not related, or CommandError."""
    platform = run.platform()
    number = known_relation(platform, name)
    record = platform.model.clients[number]
    if record.told is None or record.password is None or not record.told.endpoints:
        raise CommandError(f"{name} cannot connect yet: {reason_of(platform, number)}")
    return Access(record.told, Login(username=username_of(number), password=record.password))


def reason_of(platform: LocalPlatform, number: int) -> str:
    """Return why an application cannot connect: its own problem, or else another problem of the units."""
    topic = f"client:{username_of(number)}"
    problems = sorted(platform.model.ledger.troubles, key=lambda problem: problem.topic != topic)
    return [*(problem.text for problem in problems), "see `pooler status`"][0]


def kept(libpq: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of libpq that do not choose a server or a login, such as $PGOPTIONS."""
    return {name: text for name, text in libpq.items() if not _OF_LOGINS.fullmatch(name)}


def _conninfo_value(text: str) -> str:
    """Return a value of a connection string, in quotes if it needs them."""
    if re.fullmatch(r"[^\s'\\=]+", text):
        return text
    escaped = re.sub(r"(['\\])", r"\\\1", text)
    return f"'{escaped}'"
