"""Who may try to log in to PgBouncer, from where, and how?

Rules of the file https://www.pgbouncer.org/config.html#hba-file-format: the first that matches decides.
"""

from typing import Literal

from domain.pools import AUTH_ALIAS
from domain.users import AuthMaterial
from domain.value import Value

CONSOLE = "pgbouncer"  #: the name of PgBouncer's own database

Origin = Literal["local", "host"]  #: a Unix socket, or the network


class Rule(Value):
    """Which logins a rule is about, and whether they may go on to SCRAM."""

    origins: tuple[Origin, ...] = ("local", "host")
    database: str = ""  #: '' is each database
    users: tuple[str, ...] = ()  #: none is each user
    replication: bool = False  #: whether the rule is about replication connections only
    admits: bool = False


def access_rules(auth: AuthMaterial | None) -> tuple[Rule, ...]:
    """Return the rules of every process of a unit.

    The console, and the users that may use it, are for Unix sockets: their passwords are no use to a
    client of the network, so neither is CVE-2026-107350. The user that looks passwords up, and its name
    for a database, are never for clients.
    """
    if auth is None:
        return (Rule(),)
    own = (auth.stats_user, auth.admin_user)
    return (
        Rule(origins=("local",), database=CONSOLE, users=own, admits=True),
        Rule(database=CONSOLE),
        Rule(users=(*own, auth.auth_user)),
        Rule(database=AUTH_ALIAS),
        Rule(replication=True),
        Rule(admits=True),
    )
