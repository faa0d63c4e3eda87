"""What the rotations in the ledger mean for the clients that a unit sees."""

import datetime
import math

from domain.facts import Facts
from domain.rotation import EndedLogin, Rotation
from domain.users import AccessRequest


def with_names(facts: Facts) -> Facts:
    """Return the facts in which clients, and their grants, have the names that rotations give them."""
    ledger = facts.ledger
    if not ledger.rotations:
        return facts
    names = ledger.rotation_of
    grants = tuple(grant.named(names(grant.first_username)) for grant in ledger.grants)
    return facts.recording(ledger.granting(grants)).naming(names)


def rotations(facts: Facts) -> tuple[Rotation, ...]:
    """Return the rotations of clients that stay.

    A client that was told its name keeps the name also without a grant: another PostgreSQL may have refused what
    the client asks for, and the client is told no other name when that is mended.
    """
    staying = {grant.first_username for grant in facts.grants_to_keep}
    staying |= {client.request.first_username for client in facts.clients if client.published}
    return tuple(
        known
        for known in facts.ledger.rotations
        if known.username in staying or facts.is_unclear(known.username)
    )


def rotation_for(facts: Facts, request: AccessRequest) -> Rotation | None:
    """Return the rotation of a client if it has given the client the name that it has in these facts.

    In the hook that begins a rotation the client still has its former name: nothing is done before Juju
    keeps the ledger.
    """
    known = facts.ledger.rotation_of(request.first_username)
    return known if known.open and known.current == request.username else None


def begun_here(facts: Facts) -> list[str]:
    """Return the clients whose rotation this hook has begun: they do not have their new names yet."""
    return [
        client.request.username
        for client in facts.clients
        if facts.ledger.rotation_of(client.request.first_username).stage == "asked"
        and rotation_for(facts, client.request) is None
    ]


def goes_on(facts: Facts) -> bool:
    """Return whether the next hook goes on with a rotation, although no event may come."""
    return bool(ending_at_once(facts)) or any(
        known.stage in ("asked", "renamed")
        or (known.expired(facts.now) and not waits_for_units(facts, known))
        for known in facts.ledger.rotations
    )


def next_end(facts: Facts) -> float:
    """Return when the next former name ends, in seconds since the epoch; infinity if none does."""
    ends = (known.until for known in facts.ledger.rotations if known.stage == "told")
    return min(ends, default=math.inf)


def ending_at_once(facts: Facts) -> list[str]:
    """Return the former names whose sessions the next hook ends."""
    return [known.former for known in facts.ledger.rotations if known.to_cut]


def ended_logins(facts: Facts) -> tuple[EndedLogin, ...]:
    """Return the users whose clients all units disconnect."""
    return tuple(ended for known in facts.ledger.rotations for ended in known.ended_logins)


def waits_for_units(facts: Facts, rotation: Rotation) -> bool:
    """Return whether a unit has not reported yet that it has disconnected the clients of a rotation.

    The report of a unit is an event. Without a cut there is nothing to report.
    """
    return bool(_not_disconnected(facts, rotation))


def _not_disconnected(facts: Facts, rotation: Rotation) -> list[str]:
    """Return the units that have not reported that they disconnected the clients of a rotation."""
    wanted = set(rotation.ended_logins)
    return sorted(
        name for name, report in facts.reports.items() if not wanted.issubset(report.ended_logins)
    )


def progress(facts: Facts, rotation: Rotation) -> str:
    """Return what a rotation of a client waits for."""
    topics = {f"client:{name}" for name in (rotation.former, rotation.current)}
    problem = next((p.text for p in facts.ledger.problems if p.topic in topics), "")
    if problem:
        return problem
    if rotation.stage == "asked":
        return f"the next hook gives it user {rotation.current} in place of {rotation.former}"
    if rotation.stage == "renamed":
        return f"it gets user {rotation.current} as soon as every unit and PostgreSQL let it in"
    if rotation.cut and (units := _not_disconnected(facts, rotation)):
        return f"{', '.join(units)} did not report yet that its clients are disconnected"
    if rotation.expired(facts.now):
        return f"user {rotation.former} is dropped when it has no sessions any more"
    end = datetime.datetime.fromtimestamp(rotation.until, datetime.UTC)
    return f"user {rotation.former} can log in until {end:%Y-%m-%d %H:%M:%S UTC}"


def former_users(facts: Facts) -> frozenset[str]:
    """Return the roles with the former names of clients that stay, until nothing needs them any more."""
    return frozenset(
        known.former for known in rotations(facts) if known.open and not known.overdue(facts.now)
    )
