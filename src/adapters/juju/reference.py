"""Read what the charm that this charm replaces (the reference) has stored in Juju, answer it, and remove it.

Only hooks of a unit that sees keys of the reference import this module. The databags and secrets are those of
this application: no remote application can write them. The names of databases in them come from the requests of
applications, and are parsed like requests.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

import pydantic

from adapters.juju.databags import parsed
from adapters.juju.names import (
    LEGACY,
    PEERS,
    REFERENCE_APP_KEYS,
    REFERENCE_UNIT_KEYS,
    UPGRADE,
)
from adapters.juju.secrets import LabelledSecret
from domain.reference import AuthUserInUse, Reference, ReferenceDatabase, databases_digest
from domain.tls import certificates_in
from domain.users import AuthMaterial, name_problem

if TYPE_CHECKING:
    import ops

    from adapters.juju.state import JujuState
    from domain.certificates import IssuedCertificate

logger = logging.getLogger(__name__)

# The key in the databag of a unit that says with which auth user it looks passwords up.
_IN_USE = "auth-user"

# A unit of the reference writes this key each time its container starts. A unit of this charm removes it.
_RUNS = "container_initialised"

# The library of the reference writes this text in place of a field of a secret that it removes.
_REMOVED = "None"

# Fields of the secret of the application that only the reference reads.
_SECRET_FIELDS = ("auth-file", "cfg-file", "internal-secret")

# A line of PgBouncer's auth file; double quotes inside of a name or a password are doubled.
_ENTRY = re.compile(r'^"((?:[^"]|"")*)" "((?:[^"]|"")*)"\s*$', re.MULTILINE)

# Limits in characters of a databag's text, and in databases.
_LONGEST = 1_000_000
_MOST = 10_000

Databag = Mapping[str, str]


def read(
    charm: ops.CharmBase, state: JujuState, relation: ops.Relation, shared: Databag, mine: Databag
) -> Reference:
    """Return what is left of the reference. What cannot be read is left out, and logged."""
    upgrade = state.relation(UPGRADE)
    databags = {unit.name: state.databag(relation, unit) for unit in state.units(relation)}
    legacy = {known.id for endpoint in LEGACY for known in state.relations(endpoint)}
    text = shared.get("pgb_dbs_config", "{}")
    databases = tuple(_databases(text, legacy))
    return Reference(
        shared=any(key in shared for key in REFERENCE_APP_KEYS),
        databases=databases,
        further=tuple(_further(shared, text)),
        digest=databases_digest(text),
        auth=_auth(_content(charm, state, "app"), shared),
        units=tuple(name for name, databag in databags.items() if not _is_ours(databag)),
        in_use=tuple(
            AuthUserInUse(unit=name, auth_user=databag.get(_IN_USE, ""))
            for name, databag in (*databags.items(), (charm.unit.name, mine))
        ),
        checked=upgrade is not None and "upgrade-stack" in state.app_databag(upgrade),
        state=state.unit_databag(upgrade).get("state", "") if upgrade else "",
    )


def issued_pair(charm: ops.CharmBase, state: JujuState) -> IssuedCertificate | None:
    """Return the certificate that the reference serves on this unit; None if it serves no TLS."""
    content = _content(charm, state, "unit")
    if not (content.get("key") and content.get("cert")):
        return None
    from adapters import x509

    try:
        others = certificates_in("\n".join((content.get("chain", ""), content.get("cauth", ""))))
        return x509.read_issued(content["cert"], others, pydantic.SecretStr(content["key"]))
    except ValueError as error:
        logger.warning("The certificate that this unit served before cannot be used: %s", error)
        return None


def answer(state: JujuState, digest: str, auth_user: str, upgrade_state: str) -> None:
    """Write what a leader of either charm waits for: what this unit serves, and that it is refreshed.

    With '' the field in the databag stays as it is.
    """
    if relation := state.relation(PEERS):
        fields = {"pgb_dbs": digest, _IN_USE: auth_user}
        state.put_for_unit(relation, {_RUNS: ""} | {k: text for k, text in fields.items() if text})
    if upgrade_state and (relation := state.relation(UPGRADE)):
        state.put_for_unit(relation, {"state": upgrade_state})


def forget_unit(charm: ops.CharmBase, state: JujuState) -> None:
    """Remove what the reference stored for this unit, and end the refresh on this unit."""
    _secret(charm, state, "unit").remove()
    if relation := state.relation(UPGRADE):
        state.put_for_unit(relation, {"state": "idle"})
    if relation := state.relation(PEERS):
        databag = state.unit_databag(relation)
        left = [key for key in databag if key in REFERENCE_UNIT_KEYS or key.endswith("_departing")]
        state.put_for_unit(relation, dict.fromkeys(left, ""))


def forget_application(charm: ops.CharmBase, state: JujuState) -> None:
    """Remove what the reference stored for the application, except the passwords that stay in use."""
    secret = _secret(charm, state, "app")
    content = secret.content()
    if any(field in content for field in _SECRET_FIELDS):
        secret.write({key: text for key, text in content.items() if key not in _SECRET_FIELDS})
    if relation := state.relation(UPGRADE):
        state.put_for_app(relation, dict.fromkeys(state.app_databag(relation), ""))
    if relation := state.relation(PEERS):
        databag = state.app_databag(relation)
        left = [key for key in databag if key in REFERENCE_APP_KEYS]
        state.put_for_app(relation, dict.fromkeys(left, ""))


def _is_ours(databag: Databag) -> bool:
    """Return whether a unit runs this charm: it has announced itself, and has not been refreshed back since."""
    return bool(databag.get("stake")) and not databag.get(_RUNS)


def _secret(charm: ops.CharmBase, state: JujuState, scope: str) -> LabelledSecret:
    owner = charm.app if scope == "app" else charm.unit
    return LabelledSecret(charm, state, f"{PEERS}.{charm.app.name}.{scope}", owner)


def _content(charm: ops.CharmBase, state: JujuState, scope: str) -> dict[str, str]:
    """Return the content of a secret of the reference, without the fields that it removed."""
    content = _secret(charm, state, scope).content()
    return {key: text for key, text in content.items() if text != _REMOVED}


def _databases(text: str, legacy: set[int]) -> Iterator[ReferenceDatabase]:
    for key, entry in _items(text):
        name = entry.get("name")
        if not re.fullmatch("[0-9]{1,9}", key) or not isinstance(name, str) or name_problem(name):
            if key != "*":
                logger.warning("Relation %.20r has a database that no pool can lead to", key)
            continue
        number = int(key)
        old = entry.get("legacy") is True or number in legacy
        yield ReferenceDatabase(relation_id=number, name=name, legacy=old)


def _further(shared: Databag, text: str) -> Iterator[str]:
    """Yield the other databases of the server, if a client of the reference may use every database."""
    if all(key != "*" for key, _ in _items(text)):
        return
    for name in _listed(shared.get("readonly_dbs", "")):
        if isinstance(name, str) and not name_problem(name):
            yield name


def _items(text: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    value = _value_in(text)
    items = cast("dict[str, object]", value).items() if isinstance(value, dict) else ()
    for key, entry in list(items)[:_MOST]:
        if isinstance(entry, dict):
            yield key, cast("dict[str, object]", entry)


def _value_in(text: str) -> object:
    """Return the value of a JSON text; None, after a warning, if it cannot be read."""
    try:
        return parsed(text or "null", "a value of Canonical's charm", _LONGEST)
    except ValueError as error:
        logger.warning("What Canonical's charm has stored is not used: %s", error)
        return None


def _listed(text: str) -> list[object]:
    value = _value_in(text)
    return cast("list[object]", value) if isinstance(value, list) else []


def _auth(content: Databag, shared: Databag) -> AuthMaterial | None:
    """Return the users in the auth file of the reference; None if there are none that can be used.

    The auth file has the auth user's password, or its MD5 hash, by which PgBouncer logs in as well. The
    reference has no admin user: every unit derives the same password for it from what only units can read.
    """
    file = content.get("auth-file") or shared.get("auth_file", "")
    entries = {_plain(name): _plain(password) for name, password in _ENTRY.findall(file)}
    auth = [name for name in entries if name.startswith("pgbouncer_auth_")]
    stats = [name for name in entries if name.startswith("pgbouncer_stats_")]
    if len(auth) != 1 or len(stats) != 1:
        return None
    application = stats[0].removeprefix("pgbouncer_stats_")
    derived = hmac.digest(file.encode(), b"admin user of this application", "sha256").hex()
    monitoring = content.get("monitoring-password") or shared.get("monitoring_password")
    try:
        return AuthMaterial(
            auth_user=auth[0],
            auth_password=pydantic.SecretStr(entries[auth[0]]),
            stats_user=stats[0],
            stats_password=pydantic.SecretStr(monitoring or entries[stats[0]]),
            admin_user=f"pgbouncer_admin_{application}",
            admin_password=pydantic.SecretStr(content.get("admin-password") or derived),
        )
    except pydantic.ValidationError:
        # The message of the error would show the passwords.
        logger.warning("The auth file of Canonical's charm has users that cannot be used")
        return None


def _plain(text: str) -> str:
    return text.replace('""', '"')
