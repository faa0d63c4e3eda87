"""What may an adapter raise? Each has a sentence for the operator, without secrets."""


class PoolerFailed(Exception):
    """The container, its files or PgBouncer itself refused something."""


class PoolerUnreachable(PoolerFailed):
    """The container or PgBouncer did not answer, for a transient reason: the unit tries again soon."""


class ConsoleFailed(Exception):
    """The console of a PgBouncer process does not answer, or refused a command."""


class DatabaseUnreachable(Exception):
    """PostgreSQL did not answer."""


class DatabaseRefused(Exception):
    """PostgreSQL answered, and said no."""


class AccessRefused(DatabaseRefused):
    """PostgreSQL cannot give one client what it asks for; others are not concerned."""


class DatabaseBusy(AccessRefused):
    """A lock keeps the database of a client busy; a later hook tries again."""


class NoTimeLeft(DatabaseBusy):
    """This hook may wait no longer; the next hook goes on."""


class ExposureForbidden(Exception):
    """The platform does not let us expose ourselves; a human has to allow it."""


class ExposureFailed(Exception):
    """The platform did not expose us this time."""
