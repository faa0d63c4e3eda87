"""The actions that operate a running application: pause, resume, disable, enable, restart and others.

They run on the leader. In Juju other units see what an action has written when the action ends. So an action does
the part of its own unit, and the results say which units follow.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from adapters.juju import parameters as given
from app.errors import ActionFailed
from app.outcome import Answer
from domain import orders
from domain.operations import ALL, KillOrder
from domain.problems import PAUSE

if TYPE_CHECKING:
    from app.application import Application
    from app.outcome import Outcome
    from domain.facts import Facts

Parameters = Mapping[str, object]
Log = Callable[[str], None]

# Seconds: the timeout of a pause if the operator gives none, and the longest. The platform reminds a unit of a
# deadline for five minutes.
PAUSE_SECONDS, LONGEST_PAUSE = 60, 240
# Seconds that the action waits for this unit while other units wait for the end of the action.
_OWN_PART = 5.0
_LOOK_SECONDS = 0.5


def pause(application: Application, parameters: Parameters, log: Log) -> Answer:
    """Pause a database, or all, and wait until the transactions of this unit have ended."""
    given.check(parameters, ("database", "timeout"))
    database = given.text(parameters, "database")
    seconds = given.number(parameters, "timeout", 1, LONGEST_PAUSE, PAUSE_SECONDS)
    outcome = application.pause(database, seconds)
    what = orders.named((database,))
    log(f"no new transaction begins on {what}")
    alone = len(outcome.facts.reports) == 1
    end = time.monotonic() + (seconds if alone else min(seconds, _OWN_PART))
    while _waits(outcome.facts, database) and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
        outcome = application.go_on(outcome.facts)
    if (time.monotonic() >= end and seconds <= _OWN_PART) or alone:
        # The time is over: if a transaction is still open, the pause is taken back.
        outcome = application.go_on(outcome.facts.at(time.time()))
    facts = outcome.facts
    taken_back = next((p.text for p in facts.ledger.problems if p.topic == PAUSE), "")
    if taken_back:
        return Answer({}, outcome, taken_back)
    return Answer({**_paused(facts, database), **_rest(facts)}, outcome)


def _waits(facts: Facts, database: str) -> bool:
    """Return whether transactions still run on this unit."""
    return not {database, ALL}.intersection(facts.operations.paused)


def _paused(facts: Facts, database: str) -> dict[str, object]:
    plan = facts.plan
    known = plan.paused if plan else ()
    # A pause of a database also stays beside a pause of all databases.
    began = next((p for name in (ALL, database) for p in known if p.database == name), None)
    holder = facts.operations.holder
    waits = plan.settings.query_wait_timeout if plan else 0
    results: dict[str, object] = {
        "paused": orders.named((began.database,)) if began else "",
        "since": _time(began.since) if began else "",
        "this-unit": orders.held_by(holder, facts.now, ()) if holder else "no transaction runs",
        "clients-wait": f"{waits} s at most (option query_wait_timeout)" if waits else "no limit",
        "undo": facts.command("resume", began.database if began else database),
    }
    if began and began.until:
        results["taken-back"] = f"at {_time(began.until)}, if a transaction is still open then"
    return results


def resume(application: Application, parameters: Parameters, _: Log) -> Answer:
    """End the pause of a database, or every pause."""
    given.check(parameters, ("database",))
    outcome = application.resume(given.text(parameters, "database"))
    plan = outcome.facts.plan
    left = plan.paused_databases if plan else ()
    return Answer(
        {"paused": orders.named(left) if left else "nothing", **_rest(outcome.facts)}, outcome
    )


def disable(application: Application, parameters: Parameters, _: Log) -> Answer:
    """Let no client log in to a database."""
    given.check(parameters, ("database",))
    database = given.required(parameters, "database")
    return _disabled(application.disable(database))


def enable(application: Application, parameters: Parameters, _: Log) -> Answer:
    """Let clients log in to a database again."""
    given.check(parameters, ("database",))
    database = given.required(parameters, "database")
    return _disabled(application.enable(database))


def _disabled(outcome: Outcome) -> Answer:
    plan = outcome.facts.plan
    names = orders.shortened(plan.disabled) if plan and plan.disabled else "none"
    return Answer({"disabled": names, **_rest(outcome.facts)}, outcome)


def restart(application: Application, parameters: Parameters, log: Log) -> Answer:
    """Restart every process, each in turn."""
    given.check(parameters, ())
    outcome = application.restart()
    log("this unit restarts its first process; each process disconnects its clients after 20 s")
    return Answer(
        {"restarts": "processes restart in turn, and so do units", **_rest(outcome.facts)},
        outcome,
    )


def reconnect(application: Application, parameters: Parameters, _: Log) -> Answer:
    """Replace every server connection."""
    given.check(parameters, ())
    outcome = application.reconnect()
    said = "each is replaced when its transaction ends; in session mode its client is disconnected"
    return Answer({"server-connections": said, **_rest(outcome.facts)}, outcome)


def kill_clients(application: Application, parameters: Parameters, _: Log) -> Answer:
    """Disconnect clients."""
    given.check(parameters, ("database", "user", "idle-seconds", "oldest"))
    order = KillOrder(
        database=given.text(parameters, "database"),
        user=given.text(parameters, "user"),
        idle=given.number(parameters, "idle-seconds", 1, 10**9, 0),
        oldest=given.number(parameters, "oldest", 1, 10**6, 0),
    )
    if order == KillOrder():
        raise ActionFailed("say which clients: database=…, user=…, idle-seconds=… or oldest=…")
    outcome = application.kill(order)
    killed = outcome.facts.operations.killed
    return Answer({"disconnected-here": killed, **_rest(outcome.facts)}, outcome)


def show(application: Application, parameters: Parameters, _: Log) -> Answer:
    """Show what this unit does."""
    given.check(parameters, ())
    return Answer(application.show())


def report(application: Application, parameters: Parameters, _: Log) -> Answer:
    """Return a support bundle of this unit, without secrets."""
    given.check(parameters, ())
    return Answer(application.report())


def _rest(facts: Facts) -> dict[str, object]:
    """Return which units follow by themselves."""
    others = sorted(name for name in facts.reports if name != facts.unit)
    if not others:
        return {}
    shown = f"juju run {facts.unit} show"
    return {
        "other-units": f"{orders.shortened(others)} follow when this action has ended; `{shown}`"
        " shows how far they are"
    }


def _time(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
