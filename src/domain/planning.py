"""What should all units do? The leader's decision, from what it sees."""

from collections.abc import Collection, Iterator

from domain.budget import UnitAllotment, next_unit_limits, unit_limit
from domain.facts import Facts, Peer
from domain.leadership import serving_everywhere
from domain.pools import (
    DepartedUnit,
    Endpoint,
    Member,
    Plan,
    Upstream,
    endpoints_text,
    read_only_alias,
)
from domain.settings import Settings
from domain.users import AccessRequest, Offer, grant_for
from domain.value import number_of


def plan(facts: Facts, ended: Collection[str] = ()) -> Plan:
    """What all units should do. `ended` are units that have left and have no connections any more.

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
    leavers = tuple(one for one in _leavers(facts) if one.name not in ended)
    total = settings.max_db_connections
    roamed = facts.ledger.roamed if facts.standing else ()
    wanted = Plan(
        settings=settings,
        members=_members(facts, total, sum(one.held for one in leavers)),
        leavers=leavers if total else (),
        upstream=upstream(facts),
        databases=tuple(sorted({grant.database for grant in facts.standing}.union(roamed))),
        short_lived=roamed,
        lane=lane,
        former_port=former,
        known_users=_known_users(settings, current),
    )
    return wanted if wanted.upstream else wanted.without_upstream()


def agreed(facts: Facts, wanted: Plan) -> int:
    """The most connections that the leader may have in the hook in which it decides anew.

    If that hook fails, nobody hears of the new plan, and the next leader goes by the old one.
    """
    known = facts.plan or wanted.model_copy(update={"members": ()})
    return min(facts.agreed, unit_limit(known, facts.unit))


def _known_users(settings: Settings, current: Plan) -> tuple[str, ...]:
    now = {one.name for one in settings.overrides.users}
    return tuple(sorted(now.union(current.known_users)))


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
        server=facts.ledger.server,
    )


def missing(facts: Facts) -> tuple[DepartedUnit, ...]:
    """Units that have left and may still have connections, of which nobody else will tell."""
    peers = {peer.name for peer in facts.peers}
    limited = facts.plan is not None and facts.plan.settings.max_db_connections > 0
    return tuple(one for one in _leavers(facts) if limited and one.name not in peers)


def _leavers(facts: Facts) -> Iterator[DepartedUnit]:
    """Units that were members and are not any more.

    One that gives another its address is gone for sure, and so is one of which none is known.
    """
    before = facts.plan
    if before is None:
        return
    staying = {peer.name: peer.address for peer in facts.peers if not peer.leaving}
    staying[facts.unit] = facts.address
    said = {peer.name: peer.stake.held for peer in facts.peers}
    left = [DepartedUnit(name=m.name, address=m.address, held=m.share) for m in before.members]
    for one in {leaver.name: leaver for leaver in (*left, *before.leavers)}.values():
        if one.address and one.name not in staying and one.address not in staying.values():
            yield one.model_copy(update={"held": said.get(one.name, one.held)})


def _members(facts: Facts, total: int, reserved: int) -> tuple[Member, ...]:
    before = {one.name: one for one in facts.plan.members} if facts.plan else {}
    me = Peer(
        name=facts.unit, address=facts.address, leaving=facts.leaving, serving=facts.serving,
        stake=facts.stake,
    )  # fmt: skip
    everybody = sorted((me, *facts.peers), key=_number)
    units = [one for one in everybody if not one.leaving]
    told = [before[one.name].share if one.name in before else one.stake.share for one in units]
    claims = [UnitAllotment(told=t, stake=one.stake) for t, one in zip(told, units, strict=True)]
    shares = next_unit_limits(total, claims, reserved) if total else (0,) * len(units)
    return tuple(
        Member(
            name=one.name,
            address=one.address,
            processors=_processors(facts, one, before.get(one.name)),
            share=part,
        )
        for one, part in zip(units, shares, strict=True)
    )


def _processors(facts: Facts, unit: Peer, before: Member | None) -> int:
    """As it says itself; what was known as long as it says nothing."""
    if unit.name == facts.unit and facts.container.cpus:
        return facts.container.cpus
    return unit.serving.processors if unit.serving else before.processors if before else 0


def _number(unit: Peer) -> tuple[int, str]:
    return (number_of(unit.name), unit.name)


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
        hosts = [one.address for one in shared.members if shared.serves_by(one.name)]
    endpoints = endpoints_text(Endpoint(host=host, port=port) for host in hosts)
    alias = read_only_alias(shared, request.database)
    if not serving_everywhere(facts, alias):
        alias = ""
    return Offer(
        database=request.database,
        endpoints=endpoints,
        read_only_endpoints=endpoints if alias else "",
        read_only_alias=alias,
        version=shared.upstream.version,
    )
