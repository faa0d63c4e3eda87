"""What an operator asks of a running application, and what a unit reports that it has done of it."""

from typing import Annotated

import pydantic

from domain.rotation import EndedLogin
from domain.value import Count, Empty, Line, Name, Value

# Stands for all databases where the name of a database is expected.
ALL = ""

# Seconds since the epoch.
Moment = Annotated[int, pydantic.Field(ge=0, le=2**53)]


class Pause(Value):
    """A pause: no transaction begins on a database, and clients wait."""

    # ALL, or the name of a database.
    database: Name | Empty = ALL
    since: Moment = 0
    # Until then open transactions have to end, or the pause is taken back. 0 if there is no such moment, or if
    # they have ended on every unit.
    until: Moment = 0

    def complete(self) -> "Pause":
        """Return this pause after open transactions have ended on every unit."""
        return self.model_copy(update={"until": 0})


class KillOrder(Value):
    """An order to disconnect clients. A client is disconnected if it matches every field that is set."""

    # Every order has a number of its own. A unit carries out an order once.
    number: Count = 0
    # '' matches every database, or every user.
    database: Line | Empty = ""
    user: Line | Empty = ""
    # Seconds since the last request of an idle client; 0 matches every client.
    idle: Count = 0
    # The most idle clients of each process that are disconnected, those first that have been idle longest; 0 is
    # no limit.
    oldest: Count = 0

    def numbered(self, number: int) -> "KillOrder":
        """Return this order with its number."""
        return self.model_copy(update={"number": number})


class Holder(Value):
    """A client that keeps a server connection of a paused database."""

    unit: str = ""
    process: Count = 0
    database: str
    user: str
    # The address and port of the client, as PgBouncer shows them.
    address: str
    # When its last request began.
    since: Moment = 0


class Operations(Value):
    """The report of a unit on what it has done of what an operator asks."""

    # The databases on which no transaction runs any more, with ALL for all databases.
    paused: tuple[str, ...] = ()
    # The client that the unit waits for; None if it waits for no client.
    holder: Holder | None = None
    # Every process was started with this number of `Plan.restarts` or a later number.
    restarts: Count = 0
    # The number of a restart whose plan was lost, because the hook of the action was killed; 0 without such. Some
    # processes were started with this number.
    lost_restart: Count = 0
    # The number of `Plan.reconnects` that was carried out last.
    reconnects: Count = 0
    # The number of the order that was carried out last, and how many clients were disconnected for it.
    kills: Count = 0
    killed: Count = 0
    # The users of `Plan.ended_logins` whose clients were disconnected.
    ended_logins: tuple[EndedLogin, ...] = ()


class ClientSession(Value):
    """A client of a process, as its console shows it."""

    number: Count
    user: str
    alias: str
    address: str
    state: str = ""
    application: str = ""
    # The client has a server connection.
    linked: bool = False
    # A request of the client runs, or waits for a server connection.
    busy: bool = False
    # When the client connected, and when its last request began.
    connected: Moment = 0
    since: Moment = 0


def clients_to_kill(
    order: KillOrder,
    sessions: tuple[ClientSession, ...],
    aliases: frozenset[str],
    keeping: frozenset[tuple[str, str]],
    now: float,
) -> tuple[ClientSession, ...]:
    """Return the sessions that an order matches, those first that have been idle longest.

    - An order in which no field is set matches no session.
    - A client is idle while it has no server connection and does not wait for a server connection. In session mode
      a client keeps its server connection: there it is idle while no request of it runs. PgBouncer does not show
      whether a transaction is open.

    `aliases` has the names by which clients reach the database of the order. `keeping` has the pools in session
    mode, by the name of the database and the user. `now` is in seconds.
    """
    conditions = order.database or order.user or order.idle or order.oldest
    matching = [
        session
        for session in sessions
        if conditions
        and (not order.database or session.alias in aliases)
        and (not order.user or session.user == order.user)
        and (not (order.idle or order.oldest) or _idle(session, keeping))
        and now - session.since >= order.idle
    ]
    matching.sort(key=lambda session: session.since)
    return tuple(matching[: order.oldest] if order.oldest else matching)


def _idle(session: ClientSession, keeping: frozenset[tuple[str, str]]) -> bool:
    kept = not session.linked or (session.alias, session.user) in keeping
    return kept and not session.busy
