"""Rotation of the credentials of a client: a new user name and a new password, while the former still work.

A role of PostgreSQL has one password, and PgBouncer finds a password by the name of the user. So a client has two
names in turn, and a rotation gives it the other name:

1. The role of the client, which owns all its objects, gets the other name in PostgreSQL. The same transaction
   makes a role with the former name: it has the former password, is a member of the client's role, and its
   sessions act as the client's role. So both names can log in, with equal rights, and sessions that run go
   on.
2. The client's role gets a new password. The client is told its name and password once they work at every unit.
3. The role with the former name expires in PostgreSQL at a stated time, also if no hook runs then. Afterwards
   it is dropped, once it has no sessions any more.

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
        return self.stage == "told" and now >= self.until

    def overdue(self, now: float) -> bool:
        """Return whether sessions of the former name are ended: they may go on as long as the name was valid."""
        return self.expired(now) and now >= self.until + self.seconds

    def again(self, seconds: int) -> "Rotation":
        """Return the next rotation of this client."""
        return self.model_copy(
            update={"second": not self.second, "stage": "asked", "seconds": seconds, "until": 0.0}
        )

    def reaching(self, stage: Stage) -> "Rotation":
        """Return this rotation at a later stage."""
        return self.model_copy(update={"stage": stage})

    def telling(self, until: float) -> "Rotation":
        """Return this rotation after the client was told its new credentials; the former end at this time."""
        return self.model_copy(update={"stage": "told", "until": until})

    @property
    def kept(self) -> bool:
        """Return whether the record is needed: without a record, a client has its first name."""
        return self.open or self.second


def twin(username: str) -> str:
    """Return the other name of a client."""
    return username.removesuffix(SECOND) if username.endswith(SECOND) else username + SECOND
