"""How an application connects to its database, in the forms that clients read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

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
from pooler.certification import client_authorities
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
    # The path of the file with the authorities that verify the units; '' if they serve no TLS.
    authorities: str = ""

    @property
    def _tls(self) -> dict[str, str]:
        """Return the parameters of libpq by which a client verifies the units."""
        if not self.authorities:
            return {}
        return {"sslmode": "verify-full", "sslrootcert": self.authorities}

    def _with_tls(self, uri: str) -> str:
        return f"{uri}?{urlencode(self._tls, safe='/', quote_via=quote)}" if self._tls else uri

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
        uris = [self._with_tls(text) for text in unit_uris(self.offer, self.login)]
        fields: dict[str, str | list[str]] = {
            "database": self.offer.database,
            "endpoints": self.offer.endpoints,
            "username": self.login.username,
            "password": self.password,
            "uri": uris[0],
            "uris": uris,
        }
        fields |= self._tls
        if len(uris) > 1:
            fields["libpq-uri"] = self._with_tls(uri(self.offer, self.login))
        if readers := read_only_unit_uris(self.offer, self.login):
            fields["read-only-uri"] = self._with_tls(readers[0])
        return fields

    def variables(self) -> dict[str, str]:
        """Return the environment variables that frameworks and libpq read, with the first unit's address."""
        tls = {f"PG{name.upper()}": text for name, text in self._tls.items()}
        return {
            "DATABASE_URL": self._with_tls(unit_uris(self.offer, self.login)[0]),
            "PGHOST": self.endpoints[0].host,
            "PGPORT": str(self.endpoints[0].port),
            "PGDATABASE": self.offer.database,
            "PGUSER": self.login.username,
            "PGPASSWORD": self.password,
            **tls,
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
            **{name: f"PG{name.upper()}" for name in self._tls},
        }
        return " ".join(f"{key}={_conninfo_value(known[name])}" for key, name in keys.items())


def access_of(run: Invocation, name: str) -> Access:
    """Return how an application connects. Raises UsageError if it is not related, or CommandError."""
    platform = run.platform()
    number = known_relation(platform, name)
    record = platform.model.clients[number]
    if record.told is None or record.password is None or not record.told.endpoints:
        raise CommandError(f"{name} cannot connect yet: {reason_of(platform, number)}")
    login = Login(username=record.user(number), password=record.password)
    path = str(client_authorities(platform.store)) if record.told.tls else ""
    return Access(record.told, login, path)


def reason_of(platform: LocalPlatform, number: int) -> str:
    """Return why an application cannot connect: its own problem, or else another problem of the units."""
    rotation = platform.model.ledger.rotation_of(username_of(number))
    topic = f"client:{rotation.current}"
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
