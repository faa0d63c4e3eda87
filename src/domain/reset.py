"""What clears a server connection before another client gets it?"""

from domain.capabilities import ALWAYS_RESET, Version
from domain.settings import Settings

DISCARD_ALL = "DISCARD ALL"

# What DISCARD ALL stands for, less DEALLOCATE ALL
# (https://www.postgresql.org/docs/current/sql-discard.html).
DISCARD_BUT_STATEMENTS = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; "
    "SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)


def reset_settings(settings: Settings, version: Version) -> tuple[tuple[str, str], ...]:
    """Return the lines of the section [pgbouncer] about the reset.

    PgBouncer runs `server_reset_query` in pools of session mode only, unless
    `server_reset_query_always` is set (https://www.pgbouncer.org/config.html). DISCARD ALL must stand
    alone: PostgreSQL runs several statements of one string in one transaction, in which DISCARD ALL
    fails, and then nothing is reset.

    After each transaction prepared statements have to stay: a statement that PgBouncer prepares anew
    may have other types than the driver knows, and then the driver decodes wrong values.
    """
    if _session_only(settings) or not settings.server_reset_query_always:
        return (("server_reset_query", DISCARD_ALL),)
    if reset_problem(settings, version):
        return (("server_reset_query", DISCARD_ALL),)
    return (
        ("server_reset_query", DISCARD_BUT_STATEMENTS),
        ("server_reset_query_always", "1"),
    )


def reset_problem(settings: Settings, version: Version) -> str:
    """Return why `server_reset_query_always` cannot be honoured, as a sentence; '' if it can."""
    if not settings.server_reset_query_always:
        return ""
    if version < ALWAYS_RESET:
        return (
            "option server_reset_query_always needs PgBouncer"
            f" {ALWAYS_RESET.major}.{ALWAYS_RESET.minor} or later: {version} runs here,"
            " and works as with false"
        )
    modes = {settings.pool_mode, *settings.overrides.modes}
    if "session" in modes and len(modes) > 1:
        return (
            "option server_reset_query_always cannot be true while pools in session mode run beside"
            " pools in another mode, and works as with false: set it to false, or give all pools the"
            " same pool_mode"
        )
    return ""


def _session_only(settings: Settings) -> bool:
    return {settings.pool_mode, *settings.overrides.modes} == {"session"}
