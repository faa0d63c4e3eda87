"""Who may speak for the application, and what is the end of a relation?"""

from domain.facts import Facts


def decides(facts: Facts) -> bool:
    """Whether this unit may write for the application.

    A leader that leaves may not: its successor could already be writing.
    """
    return facts.leader and not facts.leaving


def cleans_up(facts: Facts) -> bool:
    """Whether this unit has to leave the backend as it was found.

    It is the leader's to do when the relation ends, which is also the end of the application's last
    unit; while other units go on, nothing is cleaned up.
    """
    return facts.leader and (not facts.backend.present or facts.last_unit)


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
