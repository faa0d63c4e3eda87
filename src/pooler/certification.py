"""Let the units ask the certificate authority of this machine, and give its certificate to clients."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
import socket

from adapters.local import files
from adapters.local.authority import answered, new_authority, successor
from adapters.local.model import UnitRecord
from domain.endpoints import address_in
from domain.settings import settings_from
from domain.tls import UnitCertificates, bundle
from pooler.arguments import UsageError
from pooler.store import CLIENT_AUTHORITIES, State, Store


class Certification:
    """The authority of a state, and the certificates of its units. Without an authority it does nothing."""

    def __init__(self, store: Store, state: State) -> None:
        self._store = store
        self._state = state

    def ask(self, unit: str) -> None:
        """Let a unit see what the authority answers to its requests, before a hook of the unit."""
        if self._state.authority is None:
            return
        record = self._state.model.units[unit]
        self._state.authority = successor(self._state.authority, _now())
        record.certificates = self._answered(record)

    def publish(self) -> None:
        """Write the authorities by which clients verify the units to a file that every user can read.

        This comes before the state is saved, and so before a unit serves a certificate of another authority.
        """
        plan, path = self._state.model.plan, client_authorities(self._store)
        if plan is None or not plan.tls:
            return
        text = bundle(plan.client_authorities)
        if not path.exists() or path.read_text() != text:
            files.write(path, text, public=True)

    @property
    def waits(self) -> bool:
        """Return whether hooks would request, get or serve another certificate now."""
        if self._state.authority is None:
            return False
        known = [self._answered(record) for record in self._state.model.units.values()]
        return any(unit.due or unit.issued for unit in known)

    def renew(self) -> None:
        """Let each unit request another certificate, for another key, in its next hook."""
        for record in self._state.model.units.values():
            record.certificates = record.certificates.renewing()
        self._store.save(self._state)

    def rotate(self) -> None:
        """Put a new authority in place of the authority. Units then request certificates of it."""
        silent = self._state.authority is not None and self._state.authority.silent
        self._state.authority = new_authority(_now(), silent=silent)
        self._store.save(self._state)

    def _answered(self, record: UnitRecord) -> UnitCertificates:
        names = self._names(record)
        return answered(record.certificates, self._state.authority, names, _now())

    def _names(self, record: UnitRecord) -> tuple[str, ...]:
        """Return the addresses and names by which clients reach a unit, the unit's own address first."""
        names = [record.address, "localhost"]
        if listen := self._state.listen:
            address = ipaddress.ip_address(listen)
            names.append("127.0.0.1" if address.is_unspecified else listen)
            names.append(self._state.model.service_host)
            if not address.is_loopback:
                names.append(address_in(socket.gethostname()))
        return tuple(dict.fromkeys(filter(None, names)))


def check(state: State) -> None:
    """Raise UsageError if clients need TLS to log in, and units would get no certificate."""
    settings, _ = settings_from(state.model.options)
    if settings and settings.client_tls_sslmode == "require" and state.authority is None:
        raise UsageError(
            "client_tls_sslmode=require needs certificates, or no client can log in: add --tls to"
            " `pooler up`, or set client_tls_sslmode=prefer"
        )


def end(state: State) -> None:
    """End the authority. Units serve what they have until clients know that they serve no TLS."""
    state.authority = None
    for record in state.model.units.values():
        record.certificates = answered(record.certificates, None, (), _now())


def client_authorities(store: Store) -> pathlib.Path:
    """Return the path of the file with the authorities by which clients verify the units."""
    return store.home / CLIENT_AUTHORITIES


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
