"""How this charm takes the place of the reference: follow its leader, take over from its last unit, clean up.

1. While a unit runs the reference, no unit of this charm writes for the application, whichever unit leads. Units
   of this charm serve by a plan that follows from what the reference has stored.
2. When no unit runs the reference any more, the leader takes over roles, passwords and secrets, and makes an auth
   user of its own.
3. When every unit looks passwords up by that auth user, the leader drops the reference's, and removes its keys.
"""

from collections.abc import Iterable

from domain.facts import Facts
from domain.own_users import is_changing
from domain.plan import Member, Plan, Serving, Upstream, share
from domain.reference import InheritedRole
from domain.refresh import RollingUpdate
from domain.settings import Settings
from domain.users import AuthMaterial, Login, auth_user, second_auth_user
from domain.value import number_of


def following(facts: Facts) -> Facts:
    """Return the facts with the plan that follows from what the reference has stored, if it decides.

    A plan that a leader of this charm has shared counts from then on.
    """
    reference = facts.reference
    if reference is None or not reference.shared or facts.plan is not None:
        return facts
    facts = facts.with_auth(facts.auth or reference.auth)
    return facts.starting_with(_plan(facts))


def _plan(facts: Facts) -> Plan:
    reference, settings = facts.reference, facts.settings or Settings()
    upstream = _upstream(facts)
    certificates = facts.certificates
    pair = certificates.kept or certificates.issued
    plan = Plan(
        settings=settings,
        members=_members(facts, settings.max_db_connections),
        upstream=upstream,
        databases=reference.names if reference else (),
        tls=pair is not None and settings.client_tls_sslmode != "disable",
        client_authorities=pair.authorities if pair else (),
        md5_logins=True,
    )
    return plan if upstream else plan.without_upstream()


def _upstream(facts: Facts) -> Upstream | None:
    """Return the server of the reference's pools. The reference has its function in a schema of its auth user."""
    known, auth = facts.backend.credentials, facts.auth
    if known is None or auth is None or not facts.backend.attached:
        return None
    return Upstream(
        endpoints=known.endpoints,
        read_only=known.read_only,
        auth_database=known.database,
        auth_user=auth.auth_user,
        auth_schema=auth.auth_user,
        version=known.version,
    )


def _members(facts: Facts, total: int) -> tuple[Member, ...]:
    """Return all units, each with an equal part of the connections: every unit comes to the same result."""
    addresses = {peer.name: peer.address for peer in facts.peers} | {facts.unit: facts.address}
    names = sorted(addresses, key=number_of)
    return tuple(
        Member(
            name=name,
            address=addresses[name],
            share=max(1, share(total, len(names), place)) if total else 0,
        )
        for place, name in enumerate(names)
    )


def takes_over(facts: Facts) -> bool:
    """Return whether this unit leads, and has to take over what the last unit of the reference left."""
    reference = facts.reference
    ended = facts.reference_decides and reference is not None and not reference.units
    return ended and facts.leader and not facts.leaving and not facts.unreadable


def successor_of(auth: AuthMaterial, backend_user: str, password: str, admin: str) -> AuthMaterial:
    """Return the users of PgBouncer after the takeover: the statistics user stays as it is.

    The auth user gets another name, because units look passwords up by the former until they know the new.
    """
    name = auth_user(backend_user)
    return AuthMaterial.model_validate(
        {
            **dict(auth),
            "auth_user": second_auth_user(name) if auth.auth_user == name else name,
            "auth_password": password,
            "admin_password": admin,
            "generation": auth.generation + 1,
            # Look-ups that have begun go on as the former auth user.
            "former_auth": Login(username=auth.auth_user, password=auth.auth_password),
        }
    )


def inherited_roles(
    facts: Facts, passwords: Iterable[tuple[str, object]]
) -> tuple[InheritedRole, ...]:
    """Return the roles that the reference's peer data name; `passwords` are those that it published, by user.

    A remote application can write neither. A user of `db` or `db-admin` has another name, and stays as it is.

    The role of a client that is still related is left out if its published password is not known: a client with
    the attribute CREATEROLE may have made a role of this name, and only the password shows whose role it is. The
    role of a client that has left needs no proof: it gets no grant, and so its login, its sessions and the role
    itself go in the hook that takes it over.
    """
    if facts.reference is None:
        return ()
    known = {name: password for name, password in passwords if password is not None}
    related = {client.request.relation_id for client in facts.clients}
    related.update(facts.relations_without_request)
    related.update(refusal.relation_id for refusal in facts.refusals)
    return tuple(
        InheritedRole.model_validate(
            {
                "username": database.username,
                "database": database.name,
                "password": known.get(database.username),
            }
        )
        for database in facts.reference.databases
        if not database.legacy
        and (database.username in known or database.relation_id not in related)
    )


def serves_plan(facts: Facts) -> bool:
    """Return whether the processes of this unit serve everything that the plan has."""
    serving, plan = facts.serving, facts.plan
    if serving is None or plan is None or not facts.container.runs:
        return False
    port = plan.settings.listen_port
    return all(serving.serves(name, port) for name in plan.databases)


def may_drop_auth_user(facts: Facts) -> bool:
    """Return whether no unit looks passwords up by the reference's auth user any more."""
    reference, auth = facts.reference, facts.auth
    if reference is None or not reference.shared or reference.units or auth is None:
        return False
    # A hook that has just stored the secret must not write it again from what it has read before.
    if not facts.ledger.provisioned_for or is_changing(auth) or facts.auth_unshared:
        return False
    reports = {report.unit: report.auth_user for report in reference.in_use}
    units = (facts.unit, *(peer.name for peer in facts.peers))
    return all(reports.get(unit) == auth.auth_user for unit in units)


def lets_next_go(facts: Facts, update: RollingUpdate) -> int | None:
    """Return the partition that this unit sets when it serves the plan; None if the partition stays.

    After `pre-upgrade-check` of the reference, the unit with the highest number waits for its action
    `resume-upgrade`; each later unit lets the next go on, as a unit of the reference does.
    """
    highest = max(number_of(name) for name in (facts.unit, *(peer.name for peer in facts.peers)))
    next_waits = 0 < update.number < highest and update.partition == update.number
    return update.number - 1 if next_waits else None


def without_partition(update: RollingUpdate) -> int | None:
    """Return the partition after the refresh from the reference; None if the partition stays."""
    return 0 if update.partition and not update.owned and not update.under_way else None


def report_of(serving: Serving | None, plan: Plan | None) -> str:
    """Return the auth user with which this unit looks passwords up; '' if it serves nothing."""
    return plan.upstream.auth_user if serving and plan and plan.upstream else ""
