"""Refuse an action on a unit that does not lead, with the command that runs the action on the leader."""

from app.errors import ActionFailed, NotLeading
from domain.facts import Facts
from domain.leadership import may_write_for_app


def check_leads(facts: Facts, action: str, database: str = "") -> None:
    """Raise NotLeading unless this unit leads."""
    if not facts.leader:
        raise NotLeading(facts.unit, facts.command(action, database))


def check_may_write(facts: Facts, action: str, database: str = "") -> None:
    """Raise ActionFailed unless this unit leads, and may write for the application."""
    check_leads(facts, action, database)
    if not may_write_for_app(facts):
        raise ActionFailed(
            f"{facts.unit} is being removed, or cannot read what another release wrote: see its status"
        )
