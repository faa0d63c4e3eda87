"""Decide whether a unit may write for the application, and whether a relation ends for all units."""

from domain.facts import Facts


def may_write_for_app(facts: Facts) -> bool:
    """Whether this unit may write for the application.

    A leader that is being removed may not: its relations end while the application keeps them, and its
    successor could already be writing. A leader that cannot read the plan or the ledger may not
    either: it would replace them by an empty plan or ledger.
    """
    return facts.leader and not facts.leaving and not facts.unreadable


def misses_something(facts: Facts) -> bool:
    """Return whether the leader does not see a member, the relation of a grant, or the backend, on record.

    A unit that is being removed sees its relations end, while the application keeps them. So a leader
    that misses a relation or a unit has to find out whether it is being removed before it acts.
    """
    members = {member.name for member in facts.plan.members} if facts.plan else set[str]()
    provisioned = facts.auth is not None or bool(facts.ledger.provisioned_for)
    return (
        not members.issubset({facts.unit, *(peer.name for peer in facts.peers)})
        or facts.standing != facts.ledger.grants
        or (provisioned and not facts.backend.attached)
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
    """Whether every unit that stays would let a client of this database in.

    A unit that has no share of max_db_connections keeps nobody waiting: no client is sent there.
    """
    if facts.plan is None:
        return False
    port = facts.plan.settings.listen_port
    said = {peer.name: peer.serving for peer in facts.peers if not peer.leaving}
    said[facts.unit] = facts.serving
    asked = [serving for name, serving in said.items() if facts.plan.serves_by(name)]
    return bool(asked) and all(one is not None and one.serves(database, port) for one in asked)
