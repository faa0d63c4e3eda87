"""Decide whether a unit may write for the application, and whether a relation ends for all units."""

from domain.facts import Facts
from domain.plan import Plan, Serving


def may_write_for_app(facts: Facts) -> bool:
    """Return whether this unit may write for the application.

    A leader that is being removed may not: its relations end while the application keeps them, and its
    successor could already be writing. A leader that cannot read the plan or the ledger may not
    either: it would replace them by an empty plan or ledger. Units of the charm that this charm replaces need
    the values of the application as they are.
    """
    blocked = facts.leaving or facts.unreadable or facts.reference_decides
    return facts.leader and not blocked


def misses_something(facts: Facts) -> bool:
    """Return whether a member of the plan, the relation of a grant, the backend or the authority is not visible.

    A unit that is being removed sees its relations end, while the application keeps them. So a leader
    that misses a relation or a unit has to find out whether it is being removed before it acts.
    """
    members = {member.name for member in facts.plan.members} if facts.plan else set[str]()
    provisioned = facts.auth is not None or bool(facts.ledger.provisioned_for)
    return (
        not members.issubset({facts.unit, *(peer.name for peer in facts.peers)})
        or facts.grants_to_keep != facts.ledger.grants
        or (provisioned and not facts.backend.attached)
        or (facts.certificates.kept is not None and not facts.certificates.related)
    )


def must_clean_backend(facts: Facts) -> bool:
    """Return whether this unit has to remove the roles of this application from PostgreSQL.

    The leader does that when the relation with PostgreSQL ends for the application. For a leader that
    is being removed, the relation ends although other units keep it: such a leader removes the roles
    only if no unit stays.
    """
    if not facts.leader or facts.unreadable:
        return False
    return facts.last_unit if facts.leaving else not facts.backend.present


def serving_everywhere(facts: Facts, database: str) -> bool:
    """Return whether every unit that stays accepts clients of this database.

    A unit without a share of max_db_connections is left out: no client is sent there.
    """
    if facts.plan is None:
        return False
    port, needed = facts.plan.settings.listen_port, _reports(facts, facts.plan)
    return bool(needed) and all(
        serving is not None and serving.serves(database, port) for serving in needed
    )


def admitted_everywhere(facts: Facts, username: str) -> bool:
    """Return whether a user can log in by its certificate at every unit that stays, if it has a certificate.

    PgBouncer compares with the name of the user in the plan. A unit of a release that reports no such users counts
    as a unit that does not let the user in.
    """
    plan = facts.plan
    if plan is None or username not in (login.username for login in plan.certificate_logins):
        return True
    return all(
        serving is not None and username in serving.certificate_users
        for serving in _reports(facts, plan)
    )


def reported(facts: Facts) -> dict[str, Serving | None]:
    """Return what each unit that stays serves by the present plan; None for a unit that has not reported it."""
    servings = {facts.unit: facts.serving}
    servings |= {peer.name: peer.serving for peer in facts.peers if not peer.leaving}
    plan = facts.plan
    return {
        name: serving if serving and (plan is None or serving.is_of(plan)) else None
        for name, serving in servings.items()
    }


def _reports(facts: Facts, plan: Plan) -> list[Serving | None]:
    """Return what each unit serves that stays and has a share of max_db_connections; None without a report."""
    return [serving for name, serving in reported(facts).items() if plan.serves_by(name)]
