"""The messages of PgBouncer and PostgreSQL that have no entry in docs/errors.md, and why no client gets them."""

_CONSOLE = "answers a command on the console, which is not reachable over the network"
_CANCEL = "ends a cancel request; PgBouncer logs it, and sends nothing"
_MEMORY = "needs a machine without memory, or a fault of PgBouncer"
_METHOD = (
    "needs a login method that the configuration does not have: it has SCRAM and certificates"
)
_LOG = "is a line of the log, and the client gets another message"
_NOT_SET = "needs a setting that the configuration leaves off"
_IDLE = "is the end of a server connection that no client uses"

# The words as PgBouncer's program has them.
LEFT_OUT = {
    "PQexec disallowed": _NOT_SET,
    "transaction timeout": _NOT_SET,
    "auth_type=any requires forced user": _NOT_SET,
    '"trust" authentication failed': _METHOD,
    "unix socket login rejected": _METHOD,
    "empty password returned by client": _METHOD,
    "TLS certificate name mismatch": _LOG,
    "TLS client certificate required": _LOG,
    "password authentication failed": _LOG,
    "no such user: %s": _LOG,
    "PAM queue is full, waiting": _METHOD,
    "password too long": _METHOD,
    "admin access needed": _CONSOLE,
    "invalid command '%s', use SHOW HELP;": _CONSOLE,
    "extended query protocol not supported by admin console": _CONSOLE,
    "pooler is not paused": _CONSOLE,
    "failed cancel request": _CANCEL,
    "bad cancel request": _CANCEL,
    "could not find peer to forward request to": _CANCEL,
    "failed to forward cancel request because its TTL was exhausted": _CANCEL,
    "cancel request for idle client": _CANCEL,
    "no memory for pool": _MEMORY,
    "bouncer resources exhaustion": _MEMORY,
    "failed to prepare welcome message": _MEMORY,
    "pause failed": _MEMORY,
    "client unexpected eof": _LOG,
    "SSL req inside SSL": "ends a connection without a message",
    "server idle timeout": _IDLE,
    "server lifetime over": _IDLE,
    "evicted": _IDLE,
    "connect timeout": "PgBouncer logs it; a client gets the message of the cached error",
}
