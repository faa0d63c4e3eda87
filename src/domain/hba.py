"""The rules of PgBouncer's HBA file: which users may log in to which database, from where.

The first rule that matches decides (https://www.pgbouncer.org/config.html#hba-file-format).
"""

from typing import Literal

from domain.plan import AUTH_ALIASES
from domain.users import AuthMaterial
from domain.value import Value

# The name of PgBouncer's own database.
CONSOLE = "pgbouncer"

# A Unix socket, the network, or the network with TLS.
Origin = Literal["local", "host", "hostssl"]


class Rule(Value):
    """The logins that a rule matches, and whether it admits them to authentication by SCRAM."""

    origins: tuple[Origin, ...] = ("local", "host")
    # '' matches every database.
    database: str = ""
    # () matches every user.
    users: tuple[str, ...] = ()
    # Whether the rule matches replication connections only.
    replication: bool = False
    admits: bool = False
    # Whether MD5 hashes are accepted, too. PgBouncer uses SCRAM for every user that has a SCRAM verifier.
    md5: bool = False
    # The map from the names of certificates to users, in place of SCRAM; '' for SCRAM.
    certificate_map: str = ""

    def record(self) -> dict[str, object]:
        """Return plain data that identifies the rule, without what a rule of an earlier release lacks."""
        later = ("certificate_map", "md5")
        unset = {name for name in later if not getattr(self, name)}
        return self.model_dump(mode="json", exclude=unset)


def access_rules(
    auth: AuthMaterial | None,
    *,
    tls_only: bool = False,
    md5: bool = False,
    certificate_map: str = "",
    by_certificate: tuple[str, ...] = (),
    disabled: tuple[str, ...] = (),
) -> tuple[Rule, ...]:
    """Return the rules of every process of a unit; without `auth` no login is admitted.

    No login is admitted to the databases in `disabled`, which have the names that clients use.

    With TLS, the users in `by_certificate` log in by a certificate that `certificate_map` leads to them, and
    not by password.

    With `md5` the users of clients can also log in by an MD5 hash.

    With `tls_only` no login over the network is admitted without TLS, whether there is a certificate or not.

    The console and its users are admitted on Unix sockets only: a client on the network cannot use
    their passwords, and so cannot use CVE-2026-107350. The users that look passwords up, and the alias
    of their database, are never admitted.
    """
    if auth is None:
        return (Rule(),)
    own = (auth.stats_user, auth.admin_user)
    return (
        Rule(origins=("local",), database=CONSOLE, users=own, admits=True),
        Rule(database=CONSOLE),
        Rule(users=(*own, *(login.username for login in auth.look_ups))),
        *(
            Rule(database=alias)
            for alias in (AUTH_ALIASES if auth.generation else AUTH_ALIASES[:1])
        ),
        Rule(replication=True),
        *(Rule(database=alias) for alias in disabled),
        *(
            Rule(origins=("hostssl",), users=(user,), admits=True, certificate_map=certificate_map)
            for user in by_certificate
        ),
        Rule(origins=("local", "hostssl"), admits=True, md5=md5)
        if tls_only
        else Rule(admits=True, md5=md5),
    )
