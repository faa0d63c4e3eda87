"""Juju secrets: how one is found by its label, written only if it differs, and removed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import ops
import pydantic

from domain.users import AuthMaterial


class LabelledSecret:
    """A secret that this application owns, known by its label."""

    def __init__(self, model: ops.Model, application: ops.Application, label: str) -> None:
        self._model = model
        self._application = application
        self._label = label

    def content(self) -> Mapping[str, str]:
        """What it holds now, {} if there is none (that this unit may read)."""
        try:
            return self._model.get_secret(label=self._label).get_content(refresh=True)
        except (ops.SecretNotFoundError, ops.ModelError):
            return {}

    def write(self, content: Mapping[str, str], relation: ops.Relation | None = None) -> str:
        """It holds this, and the relation may read it; returns its URI."""
        try:
            secret = self._model.get_secret(label=self._label)
        except ops.SecretNotFoundError:
            secret = self._application.add_secret(dict(content), label=self._label)
            if relation:
                secret.grant(relation)
        else:
            if secret.peek_content() != content:
                secret.set_content(dict(content))
                # The owner counts as a reader: else the old revision would stay in use.
                secret.get_content(refresh=True)
        return secret.id or secret.get_info().id

    def remove(self) -> None:
        """There is none."""
        with contextlib.suppress(ops.SecretNotFoundError):
            self._model.get_secret(label=self._label).remove_all_revisions()


# The names that a release before ours gave to what means the same.
_KEYS = {
    "auth_user": "auth-user",
    "auth_password": "auth-password",
    "stats_user": "monitoring-user",
    "stats_password": "monitoring-password",
    "admin_user": "admin-user",
    "admin_password": "admin-password",
}


class JujuSecrets:
    """The passwords of PgBouncer's own users, in a secret of the application."""

    def __init__(self, charm: ops.CharmBase, label: str) -> None:
        self._secret = LabelledSecret(charm.model, charm.app, label)
        #: Whether the last read found a secret that this release cannot read.
        self.unreadable = False

    def read(self) -> AuthMaterial | None:
        """Return the users that all units share; None if the secret is missing or cannot be read."""
        content = self._secret.content()
        self.unreadable = False
        try:
            return AuthMaterial.model_validate({name: content[key] for name, key in _KEYS.items()})
        except (KeyError, pydantic.ValidationError):
            self.unreadable = bool(content)
            return None

    def store(self, auth: AuthMaterial) -> None:
        """Write the secret, which all units can read, and keep the keys of another release in it."""
        before = self._secret.content()
        ours = {
            key: value.get_secret_value() if isinstance(value, pydantic.SecretStr) else value
            for key, value in ((key, getattr(auth, name)) for name, key in _KEYS.items())
        }
        content = {**before, **ours}
        if before != content:
            self._secret.write(content)

    def forget(self) -> None:
        """Nobody can read it any more."""
        self._secret.remove()
