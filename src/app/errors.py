"""The errors that adapters raise. Each has a sentence for the operator, without secrets.

PoolerFailed
PoolerUnreachable
ExportersFailed
ConsoleFailed
DatabaseUnreachable
DatabaseRefused
AccessRefused
DatabaseBusy
NoTimeLeft
ExposureForbidden
ExposureFailed
CertificatesFailed
RolloutForbidden
RolloutFailed
ActionFailed
"""


class PoolerFailed(Exception):
    """The container, its files or PgBouncer refused something."""


class PoolerUnreachable(PoolerFailed):
    """The container or PgBouncer did not answer, for a transient reason: the unit tries again soon."""


class ExportersFailed(Exception):
    """The exporters did not change. A later hook tries again."""


class ConsoleFailed(Exception):
    """The console of a PgBouncer process does not answer, or refused a command."""


class DatabaseUnreachable(Exception):
    """PostgreSQL did not answer."""


class DatabaseRefused(Exception):
    """PostgreSQL answered, and refused."""


class AccessRefused(DatabaseRefused):
    """PostgreSQL cannot give a client what it asks for. Other clients are not affected."""


class DatabaseBusy(AccessRefused):
    """A lock keeps the database of a client busy. A later hook tries again."""


class NoTimeLeft(DatabaseBusy):
    """This hook may wait no longer. The next hook continues."""


class ExposureForbidden(Exception):
    """Kubernetes forbids the Service. An operator has to allow it."""


class ExposureFailed(Exception):
    """Kubernetes did not apply the Service. A later hook tries again."""


class CertificatesFailed(Exception):
    """A certificate of this unit was not requested or kept. A later hook tries again."""


class ActionFailed(Exception):
    """An operator asked for something that cannot be done. The sentence says why, and what to do."""


class NotLeading(ActionFailed):
    """An operator asked this unit for something that only the leader of its application does."""

    def __init__(self, unit: str, command: str) -> None:
        super().__init__(f"{unit} does not lead: run `{command}`")
        self.unit = unit


class RolloutForbidden(Exception):
    """Kubernetes does not show the refresh of the pods to this application. An operator has to allow it."""


class RolloutFailed(Exception):
    """Kubernetes did not answer, or refused, during a refresh. A later hook tries again."""
