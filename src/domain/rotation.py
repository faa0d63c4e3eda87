"""Rotation of the credentials of a client: a new user name and a new password, while the former still work.

A role of PostgreSQL has one password, and PgBouncer finds a password by the name of the user. So a client has two
names in turn, and a rotation gives it the other name:

1. The role of the client, which owns all its objects, gets the other name in PostgreSQL. The same transaction
   makes a role with the former name: it has the former password, is a member of the client's role, and its
   sessions act as the client's role. So both names can log in, with equal rights, and sessions that run go
   on.
2. The client's role gets a new password. The client is told its name and password once they work at every unit.
3. A later hook lets the role with the former name expire in PostgreSQL at a stated time, also if no hook runs
   then: Juju tells the client nothing of a hook that fails. After that time the role is dropped, once it has no
   sessions any more.
4. If the former credentials end at once, because their password became known, the sessions of both names end, in
   PostgreSQL and in PgBouncer: a session of the former name may have set a password for the client's role.

Renaming a role keeps its OID, and with it the objects, rights, sessions and settings of the client. When no
rotation is on the way, a client has a single role, whose name is the name that the client was told:
`session_user` is `current_user`, and the client may write its name in SQL, e.g. `ALTER TABLE … OWNER TO`. If
the client logged in as a second role for good, its objects would belong to a role whose name it does not
know.
"""

from typing import Literal

from domain.value import Count, Name, Value

# Ends the second name of a client. The identifier of a request has no underscore, so this ends no first name. The
# pattern of the PostgreSQL charms for users in pg_hba.conf, `relation_id_%`, matches both names.
SECOND = "__2"

# How long the former credentials are valid, in seconds.
DAY = 24 * 60 * 60

# - asked: the next hook gives the client's role its other name.
# - renamed: both names can log in, and the client is told its new credentials as soon as it can use them.
# - told: the client was told. The former name expires.
# - ended: the role with the former name was dropped.
Stage = Literal["asked", "renamed", "told", "ended"]


class EndedLogin(Value):
    """A user whose clients are disconnected, because what they logged in with has ended."""

    user: Name
    # When that was, in seconds since the epoch: each end is carried out once.
    at: float


class Rotation(Value):
    """The names of a client that was given new credentials."""

    # The first name of the client, which identifies it.
    username: Name
    # Whether the client has its second name now.
    second: bool = False
    stage: Stage = "ended"
    # How long the former credentials are valid, in seconds, and until when, in seconds since the epoch.
    seconds: Count = DAY
    until: float = 0.0
    # If the former credentials end at once: when the sessions of both names were ended in PostgreSQL, in seconds
    # since the epoch. Units disconnect the clients of both names after that. 0 before, and in other rotations.
    cut: float = 0.0

    @property
    def current(self) -> str:
        """Return the name of the client's role."""
        return self.username + SECOND if self.second else self.username

    @property
    def former(self) -> str:
        """Return the name before the last rotation."""
        return self.username if self.second else self.username + SECOND

    @property
    def open(self) -> bool:
        """Return whether the role with the former name may be needed."""
        return self.stage != "ended"

    def expired(self, now: float) -> bool:
        """Return whether the former credentials are refused."""
        return self.stage == "told" and (self.at_once or now >= self.until)

    @property
    def at_once(self) -> bool:
        """Return whether the former credentials end as soon as the client was told its new credentials."""
        return self.seconds == 0

    def overdue(self, now: float) -> bool:
        """Return whether sessions of the former name are ended: they may go on as long as the name was valid."""
        return self.expired(now) and (self.at_once or now >= self.until + self.seconds)

    def again(self, seconds: int) -> "Rotation":
        """Return the next rotation of this client."""
        return self.model_copy(
            update={
                "second": not self.second, "stage": "asked", "seconds": seconds, "until": 0.0,
                "cut": 0.0,
            }
        )  # fmt: skip

    def reaching(self, stage: Stage) -> "Rotation":
        """Return this rotation at a later stage."""
        return self.model_copy(update={"stage": stage})

    def telling(self, until: float) -> "Rotation":
        """Return this rotation after the client was told its new credentials; the former end at this time."""
        return self.model_copy(update={"stage": "told", "until": until})

    @property
    def to_cut(self) -> bool:
        """Return whether the sessions of both names are about to end."""
        return self.stage == "told" and self.at_once and not self.cut

    def cutting(self, now: float) -> "Rotation":
        """Return this rotation after the sessions of both names were ended in PostgreSQL."""
        return self.model_copy(update={"cut": now})

    @property
    def ended_logins(self) -> tuple["EndedLogin", ...]:
        """Return the users whose clients the units disconnect."""
        names = (self.former, self.current) if self.open and self.cut else ()
        return tuple(EndedLogin(user=name, at=self.cut) for name in names)

    @property
    def kept(self) -> bool:
        """Return whether the record is needed: without a record, a client has its first name."""
        return self.open or self.second


def twin(username: str) -> str:
    """Return the other name of a client."""
    return username.removesuffix(SECOND) if username.endswith(SECOND) else username + SECOND
