"""Decide whether a unit may write for the application, and whether a relation ends for all units."""

from domain.facts import Facts


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
    port = facts.plan.settings.listen_port
    servings = {peer.name: peer.serving for peer in facts.peers if not peer.leaving}
    servings[facts.unit] = facts.serving
    needed = [serving for name, serving in servings.items() if facts.plan.serves_by(name)]
    return bool(needed) and all(
        serving is not None and serving.serves(database, port) for serving in needed
    )
