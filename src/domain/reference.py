"""What units of the charm that this charm replaces have stored. That charm is called the reference."""

import hashlib

import pydantic

from domain.users import AuthMaterial, username_of
from domain.value import Name, Value


class ReferenceDatabase(Value):
    """A database that the reference gave to the application of a relation."""

    relation_id: int
    name: Name
    # The relation is a relation of `db` or `db-admin`, whose user has another name.
    legacy: bool = False

    @property
    def username(self) -> str:
        """Return the role that the reference made for the relation."""
        return username_of(self.relation_id)


class AuthUserInUse(Value):
    """The auth user with which a unit of this charm looks passwords up."""

    unit: str
    auth_user: str


class Reference(Value):
    """What is left of the reference in the peer databags and in the secret of the application."""

    # Whether the application's databag has keys of the reference; else only the databag of this unit has.
    shared: bool = True
    databases: tuple[ReferenceDatabase, ...] = ()
    # Further databases that pools of the reference lead to, because a client may use every database.
    further: tuple[Name, ...] = ()
    # The digest by which a leader of the reference knows that a unit serves these databases.
    digest: str = ""
    # The users of PgBouncer as the reference's auth file has them; None if it cannot be read (yet).
    auth: AuthMaterial | None = None
    # The units that still run the reference, or have not announced yet that they do not.
    units: tuple[str, ...] = ()
    # What units of this charm reported.
    in_use: tuple[AuthUserInUse, ...] = ()
    # The action `pre-upgrade-check` of the reference has run, so that units are refreshed by a partition.
    checked: bool = False
    # What this unit last wrote for the peer relation `upgrade`.
    state: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all databases, each once, in alphabetical order."""
        return tuple(sorted({database.name for database in self.databases}.union(self.further)))

    def reporting(self, unit: str, auth_user: str, state: str) -> "Reference":
        """Return these values after this unit reported its auth user, and the state of its refresh if not ''."""
        reports = {report.unit: report for report in self.in_use}
        reports[unit] = AuthUserInUse(unit=unit, auth_user=auth_user)
        changed = {"in_use": tuple(reports.values()), "state": state or self.state}
        return self.model_copy(update=changed)


class InheritedRole(Value):
    """The role of a client that the reference made in PostgreSQL."""

    username: str
    database: str
    # The password that the reference published; None for a client whose relation has ended since.
    password: pydantic.SecretStr | None = None


def databases_digest(text: str) -> str:
    """Return the digest that a leader of the reference compares with its own of the same text."""
    return hashlib.shake_128(text.encode(errors="surrogatepass")).hexdigest(16)
