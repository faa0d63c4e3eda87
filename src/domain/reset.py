"""The reset queries that clear a server connection before another client gets it."""

from domain import sentences
from domain.capabilities import ALWAYS_RESET, Version
from domain.settings import Settings

# PgBouncer sends a reset in a packet of 512 bytes. A longer text fails, and PgBouncer closes each server
# connection after a single use.
DISCARD_ALL = "DISCARD ALL"

# The statements that DISCARD ALL stands for, without DEALLOCATE ALL
# (https://www.postgresql.org/docs/current/sql-discard.html).
DISCARD_BUT_STATEMENTS = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; "
    "SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)

# From 1.26 on PgBouncer gives a server connection the search_path that a client sends at login. PostgreSQL
# before 18 does not report that setting, so PgBouncer does not notice that a reset restores it, and the
# next transaction of that client runs in another schema. Measured with 1.26.1 and PostgreSQL 15: with
# DISCARD ALL in session mode 6 of 36 logins had another schema, with RESET ALL after each transaction
# every second transaction; with 18, none. When PgBouncer sets a second path on a server connection, it keeps
# the first path in its cache, and overwrites the client's path with it (`varcache_set_canonical` in its log). A
# reset therefore ends a server connection whose search_path was changed: on a new server connection PgBouncer
# sets the path that the client asked for.
SEARCH_PATH_TRACKED = Version(1, 26)
SEARCH_PATH_REPORTED = Version(18)
DISCARD_BUT_STATEMENTS_OR_END = (
    "SET SESSION AUTHORIZATION DEFAULT; "
    "SELECT pg_catalog.set_config('pgbouncer.path', pg_catalog.current_setting('search_path'), false); "
    "RESET search_path; SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()) WHERE "
    "pg_catalog.current_setting('pgbouncer.path') OPERATOR(pg_catalog.<>) "
    "pg_catalog.current_setting('search_path'); "
    "CLOSE ALL; RESET ALL; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); "
    "DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)
DISCARD_OR_END = f"{DISCARD_BUT_STATEMENTS_OR_END}; DEALLOCATE ALL"


def reset_settings(
    settings: Settings, version: Version, server: Version | None
) -> tuple[tuple[str, str], ...]:
    """Return the lines of the section [pgbouncer] about the reset; `server` is PostgreSQL's version.

    PgBouncer runs `server_reset_query` in pools of session mode only, unless
    `server_reset_query_always` is set (https://www.pgbouncer.org/config.html). DISCARD ALL must stand
    alone: PostgreSQL runs several statements of a string in a single transaction, in which DISCARD ALL
    fails, and then nothing is reset.

    A reset after a transaction has to keep prepared statements: a statement that PgBouncer prepares again
    may have other types than the driver expects, and then the driver decodes wrong values.
    """
    loses_path = version >= SEARCH_PATH_TRACKED and (
        server is None or server < SEARCH_PATH_REPORTED
    )
    wanted = settings.server_reset_query_always and not _session_only(settings)
    if not wanted or reset_problem(settings, version):
        return (("server_reset_query", DISCARD_OR_END if loses_path else DISCARD_ALL),)
    return (
        (
            "server_reset_query",
            DISCARD_BUT_STATEMENTS_OR_END if loses_path else DISCARD_BUT_STATEMENTS,
        ),
        ("server_reset_query_always", "1"),
    )


def reset_problem(settings: Settings, version: Version) -> str:
    """Return why `server_reset_query_always` cannot take effect, as a sentence; '' if it can."""
    if not settings.server_reset_query_always:
        return ""
    if version < ALWAYS_RESET:
        needed = f"{ALWAYS_RESET.major}.{ALWAYS_RESET.minor}"
        return sentences.RESET_NOT_SUPPORTED.text(needed=needed, version=version)
    modes = {settings.pool_mode, *settings.overrides.modes}
    if "session" in modes and len(modes) > 1:
        return sentences.RESET_IN_MIXED_MODES.text()
    return ""


def _session_only(settings: Settings) -> bool:
    return {settings.pool_mode, *settings.overrides.modes} == {"session"}
