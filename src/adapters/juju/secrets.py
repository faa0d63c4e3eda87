"""Secrets of Juju that this application owns: read, write and remove them by label."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import ops
import pydantic
from ops import hookcmds

from adapters.juju.state import JujuState
from domain import own_users
from domain.settings import RotationPeriod
from domain.system_users import ADMIN
from domain.users import AuthMaterial

# The URI of a secret. Other applications choose some URIs, and hook tools read an argument that begins with a
# hyphen as an option, such as --output=FILE.
_URI = re.compile(r"(?:secret:)?([0-9A-Za-z/][0-9A-Za-z/_-]{0,119})")


def secret_id(uri: str) -> str:
    """Return the ID in the URI of a secret, which is the same in each form of the URI."""
    return re.split("[:/]", uri.strip())[-1]


def content_of(*, uri: str | None = None, label: str | None = None) -> dict[str, str] | None:
    """Return the newest content of a secret; None if there is no secret that this unit may read.

    A secret of another application is given by its URI, a secret of this application by its label. This is a
    single call of a hook tool, and the model of ops makes two.
    """
    try:
        if uri is None:
            return hookcmds.secret_get(label=label or "", refresh=True)
        if not (found := _URI.fullmatch(uri.strip())):
            return None
        return hookcmds.secret_get(id=f"secret:{found[1]}", refresh=True)
    except (hookcmds.Error, ops.ModelError):
        return None


class LabelledSecret:
    """A secret of this application, or of its unit if `owner` is the unit, identified by its label.

    The next hook cannot compare the content of a secret. So after a hook that writes a secret, the next hook
    reads everything again.
    """

    def __init__(
        self,
        charm: ops.CharmBase,
        state: JujuState,
        label: str,
        owner: ops.Application | ops.Unit | None = None,
    ) -> None:
        self._model = charm.model
        self._owner = owner or charm.app
        self._state = state
        self._label = label

    def content(self) -> Mapping[str, str]:
        """Return the content; {} if there is no secret that this unit may read."""
        return content_of(label=self._label) or {}

    def write(self, content: Mapping[str, str], relation: ops.Relation | None = None) -> str:
        """Write the content if it differs, let the relation read it, and return the URI of the secret."""
        try:
            secret = self._model.get_secret(label=self._label)
        except ops.SecretNotFoundError:
            self._state.incomparable()
            secret = self._owner.add_secret(dict(content), label=self._label)
            if relation:
                secret.grant(relation)
        else:
            if secret.peek_content() != content:
                self._state.incomparable()
                secret.set_content(dict(content))
                # The owner counts as a reader: without a read the old revision would stay in use.
                secret.get_content(refresh=True)
        return secret.id or secret.get_info().id

    def remove(self) -> None:
        """Remove the secret, if it exists."""
        try:
            secret = self._model.get_secret(label=self._label)
        except ops.SecretNotFoundError:
            return
        self._state.incomparable()
        secret.remove_all_revisions()

    def rotate(self, period: str) -> None:
        """Ask Juju for the event secret-rotate after each period, if the secret exists."""
        try:
            secret = self._model.get_secret(label=self._label)
        except ops.SecretNotFoundError:
            return
        self._state.incomparable()
        secret.set_info(rotate=ops.SecretRotate(period))


# The label of the secret with the login of the admin user.
CONSOLE = "console"

# The names that an earlier release gave to these values.
_KEYS = {
    "auth_user": "auth-user",
    "auth_password": "auth-password",
    "stats_user": "monitoring-user",
    "stats_password": "monitoring-password",
    "admin_user": "admin-user",
    "admin_password": "admin-password",
}

# The keys of values that an earlier release did not write. The value of a field that is not set has no key.
_LATER_KEYS = {
    "auth_schema": "auth-schema",
    "generation": "generation",
    "leaving_auth": "leaving-auth-user",
    "former_admin_password": "former-admin-password",
    "signed_for": "signed-for",
}
# The keys of the user name and of the password.
_LOGINS = {
    "next_auth": ("next-auth-user", "next-auth-password"),
    "former_auth": ("former-auth-user", "former-auth-password"),
}
# The users whose passwords the operator chose, separated by commas.
_CHOSEN = "chosen-by-operator"

# The passwords of clients that log in by certificate: JSON, by user.
_CLIENTS = "client-passwords"
_PASSWORDS = pydantic.TypeAdapter(dict[str, str], config=pydantic.ConfigDict(defer_build=True))


class JujuSecrets:
    """The passwords of PgBouncer's own users, in a secret of the application."""

    def __init__(self, charm: ops.CharmBase, state: JujuState, label: str) -> None:
        self._secret = LabelledSecret(charm, state, label)
        # The login of the admin user of the console, for the operator. The label has no relation in it.
        self._console = LabelledSecret(charm, state, CONSOLE)
        # Whether the last read returned a secret that this release cannot read.
        self.unreadable = False

    def read(self) -> AuthMaterial | None:
        """Return the users that all units share; None if the secret is missing or cannot be read."""
        content = self._secret.content()
        self.unreadable = False
        try:
            fields: dict[str, object] = {name: content[key] for name, key in _KEYS.items()}
            passwords = _PASSWORDS.validate_json(content.get(_CLIENTS, "{}"))
            clients = (
                {"username": name, "password": text} for name, text in sorted(passwords.items())
            )
            fields |= _changes(content)
            return AuthMaterial.model_validate({**fields, "clients": tuple(clients)})
        except (KeyError, pydantic.ValidationError):
            self.unreadable = bool(content)
            return None

    def store(self, auth: AuthMaterial) -> None:
        """Write the secret, which all units can read, and keep the keys of another release in it."""
        before = self._secret.content()
        clients = {login.username: login.password.get_secret_value() for login in auth.clients}
        ours = {
            key: value.get_secret_value() if isinstance(value, pydantic.SecretStr) else value
            for key, value in ((key, getattr(auth, name)) for name, key in _KEYS.items())
        }
        content = {**before, **ours}
        for key in (_CLIENTS, _CHOSEN, *_LATER_KEYS.values(), *sum(_LOGINS.values(), ())):
            content.pop(key, None)
        content |= _written_changes(auth)
        if clients:
            content[_CLIENTS] = json.dumps(clients, sort_keys=True)
        if before != content:
            self._secret.write(content)
            if ADMIN in auth.chosen:
                # The operator has the password in a secret of their own.
                self._console.remove()
            elif self._console.content():
                self.publish_console(auth)

    def forget(self) -> None:
        """Remove the secret, and that for the operator."""
        self._secret.remove()
        self._console.remove()

    def publish_console(self, auth: AuthMaterial) -> str:
        """Write the login of the admin user to the secret for the operator, and return its URI."""
        password = auth.admin_password.get_secret_value()
        return self._console.write({"username": auth.admin_user, "password": password})

    def withdraw_console(self) -> None:
        """Remove the secret for the operator."""
        self._console.remove()

    def ask_to_rotate(self, period: RotationPeriod) -> None:
        """Ask Juju for the event secret-rotate after each period."""
        self._secret.rotate(period)


def _changes(content: Mapping[str, str]) -> dict[str, object]:
    """Return the fields of a change of passwords.

    A leader of an earlier release keeps these keys when it makes other users. They say nothing of those.
    """
    schema, user = content.get("auth-schema", ""), content["auth-user"]
    if schema and not own_users.takes_turns(user, schema):
        return {}
    fields: dict[str, object] = {
        name: content[key] for name, key in _LATER_KEYS.items() if key in content
    }
    fields["chosen"] = tuple(filter(None, content.get(_CHOSEN, "").split(",")))
    for name, (user_key, password_key) in _LOGINS.items():
        login = {"username": content.get(user_key, ""), "password": content.get(password_key, "")}
        if all(login.values()) and login["username"] != user:
            fields[name] = login
    if "next_auth" in fields:
        fields.pop("former_auth", None)
    return fields


def _written_changes(auth: AuthMaterial) -> dict[str, str]:
    """Return the content of the secret for the fields of a change of passwords."""
    content: dict[str, str] = {}
    for name, key in _LATER_KEYS.items():
        if value := getattr(auth, name):
            content[key] = (
                value.get_secret_value() if isinstance(value, pydantic.SecretStr) else str(value)
            )
    for name, (user_key, password_key) in _LOGINS.items():
        if login := getattr(auth, name):
            content[user_key] = login.username
            content[password_key] = login.password.get_secret_value()
    if auth.chosen:
        content[_CHOSEN] = ",".join(auth.chosen)
    return content
