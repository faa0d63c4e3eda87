"""What should all units do? The leader's decision, from what it sees."""

from domain.facts import Facts
from domain.leadership import serving_everywhere
from domain.pools import (
    Endpoint,
    Member,
    Plan,
    Upstream,
    endpoints_text,
    read_only_alias,
)
from domain.settings import Settings
from domain.users import EVERYWHERE, AccessRequest, Offer, grant_for


def plan(facts: Facts) -> Plan:
    """What all units should do.

    While an option is invalid, the settings that run now stay. Databases are served once access to
    them was given, so that no name ever leads to nothing.
    """
    current = facts.plan or Plan(settings=facts.settings or Settings(), members=())
    settings = facts.settings or current.settings
    port, former, lane = current.settings.listen_port, current.former_port, current.lane
    if former is not None:
        # One change of ports after another.
        settings = settings.model_copy(update={"listen_port": port})
        former = None if port_is_told(facts) else former
    elif settings.listen_port != port:
        former, lane = port, 1 if lane == 0 else 0
    wanted = Plan(
        settings=settings,
        members=_members(facts),
        upstream=upstream(facts),
        databases=tuple(sorted({grant.database for grant in facts.standing})),
        everywhere=any(EVERYWHERE.intersection(grant.roles) for grant in facts.standing),
        lane=lane,
        former_port=former,
    )
    return wanted if wanted.upstream else wanted.without_upstream()


def port_is_told(facts: Facts) -> bool:
    """Whether no client knows another port than the one that the plan now has."""
    port = facts.plan.settings.listen_port if facts.plan else 0
    told = [client.told for client in facts.clients if client.told]
    return all(one.endpoints.endswith(f":{port}") for one in told)


def upstream(facts: Facts) -> Upstream | None:
    """The server that the pools lead to, once our users exist in it.

    A moment in which the backend's facts cannot be read changes nothing.
    """
    known, auth = facts.backend.credentials, facts.auth
    if not facts.backend.attached or auth is None or not facts.ledger.provisioned_for:
        return None
    if known is None or facts.ledger.provisioned_for != known.user:
        return facts.plan.upstream if facts.plan else None
    return Upstream(
        endpoints=known.endpoints,
        read_only=known.read_only,
        auth_database=known.database,
        auth_user=auth.auth_user,
        version=known.version,
    )


def _members(facts: Facts) -> tuple[Member, ...]:
    before = {one.name: one.processors for one in facts.plan.members} if facts.plan else {}
    mine = facts.container.cpus if facts.container.reachable else before.get(facts.unit, 0)
    me = Member(name=facts.unit, address=facts.address, processors=mine)
    others = (
        Member(
            name=peer.name,
            address=peer.address,
            processors=peer.serving.processors if peer.serving else before.get(peer.name, 0),
        )
        for peer in facts.peers
        if not peer.leaving
    )
    return tuple(sorted((*(() if facts.leaving else (me,)), *others), key=_number))


def _number(member: Member) -> tuple[int, str]:
    number = member.name.rpartition("/")[2]
    return (int(number) if number.isdigit() else 0, member.name)


def offer(facts: Facts, request: AccessRequest) -> Offer | None:
    """What to tell the client of this request; None while it could not connect everywhere."""
    shared = facts.plan
    if (
        shared is None
        or shared.upstream is None
        or not serving_everywhere(facts, request.database)
    ):
        return None
    if grant_for(request) not in facts.ledger.grants:
        return None
    port = shared.settings.listen_port
    if facts.service_host:
        if port not in facts.ledger.exposed_ports:
            return None
        hosts = [facts.service_host]
    else:
        hosts = [member.address for member in shared.members]
    endpoints = endpoints_text(Endpoint(host=host, port=port) for host in hosts)
    alias = read_only_alias(shared, request.database)
    return Offer(
        database=request.database,
        endpoints=endpoints,
        read_only_endpoints=endpoints if alias else "",
        read_only_alias=alias,
        version=shared.upstream.version,
    )
