"""The decisions of the leader: the plan for all units, and the offer for each client."""

from collections.abc import Collection, Iterator, Mapping

from domain import exposure
from domain.budget import UnitAllotment, UnitBudget, next_unit_limits, unit_limit
from domain.certificate_logins import OF_A_BAD_REQUEST, CertificateLogin, distinct
from domain.endpoints import Endpoint, endpoints_text
from domain.facts import Client, Facts, Peer
from domain.leadership import serving_everywhere
from domain.plan import AUTH_ALIASES, FORMER_AUTH_SCHEMA, DepartedUnit, Member, Plan, Upstream
from domain.pools import read_only_alias
from domain.process import UNLIMITED
from domain.rotating import ended_logins, rotations
from domain.rotation import twin
from domain.settings import Settings
from domain.tls_told import client_authorities, tells_tls
from domain.users import AccessRequest, Offer, auth_user, grant_for, second_auth_user
from domain.value import number_of
from domain.verification import server_check


def plan(facts: Facts, ended: Collection[str] = ()) -> Plan:
    """Return the plan for all units. `ended` names the departed units that have no connections any more.

    While an option is invalid, the settings before stay. A database gets a pool once its user exists, so
    that no pool leads to a database that does not exist.
    """
    current = facts.plan or Plan(settings=facts.settings or Settings(), members=())
    settings = facts.settings or current.settings
    port, former, process_set = (
        current.settings.listen_port,
        current.former_port,
        current.process_set,
    )
    if former is not None:
        # The change of the port before has to end first.
        settings = settings.with_listen_port(port)
        former = None if port_is_published(facts) else former
    elif settings.listen_port != port:
        former, process_set = port, 1 if process_set == 0 else 0
    leavers = tuple(unit for unit in _departed(facts) if unit.name not in ended)
    total = settings.max_db_connections
    roamed = facts.ledger.roamed if facts.grants_to_keep else ()
    wanted = Plan(
        settings=settings,
        members=_members(facts, total, sum(unit.held for unit in leavers)),
        leavers=leavers if total else (),
        upstream=upstream(facts),
        databases=tuple(sorted({grant.database for grant in facts.grants_to_keep}.union(roamed))),
        short_lived=roamed,
        process_set=process_set,
        former_port=former,
        known_users=_known_users(settings, current),
        tls=tells_tls(facts, settings, current),
        client_authorities=client_authorities(facts, current),
        certificate_logins=certificate_logins(facts)[0],
        paused=current.paused,
        disabled=current.disabled,
        restarts=current.restarts,
        reconnects=current.reconnects,
        kills=current.kills,
        ended_logins=ended_logins(facts),
    )
    wanted = wanted.with_known_databases(request.database for request in _requests(facts))
    return (wanted if wanted.upstream else wanted.without_upstream()).after(current)


def _requests(facts: Facts) -> Iterator[AccessRequest]:
    """Yield the requests of clients, without a kept request whose grant has ended in this hook."""
    granted = {grant.username for grant in facts.ledger.grants}
    requests = (client.request for client in facts.clients)
    yield from (known for known in requests if not known.kept or known.username in granted)


def certificate_logins(facts: Facts) -> tuple[tuple[CertificateLogin, ...], dict[str, str]]:
    """Return the clients that log in by certificate, and by user why a certificate is not used."""
    current = facts.plan.certificate_logins if facts.plan else ()
    # A client whose name changes keeps its certificate, also against another client that offers its name.
    current += tuple(login.named(twin(login.username)) for login in current)
    known = {login.username: OF_A_BAD_REQUEST for login in current}
    offers = (
        (request.username, known.get(request.username) if request.kept else request.certificate)
        for request in _requests(facts)
    )
    offered = [(username, certificate) for username, certificate in offers if certificate]
    logins, problems = distinct(offered, current)
    former = {known.current: known.former for known in rotations(facts) if known.open}
    both = [login.named(former[login.username]) for login in logins if login.username in former]
    return tuple(sorted((*logins, *both), key=lambda login: login.username)), problems


def limit_known_to_peers(facts: Facts) -> int:
    """Return the most connections to a database that this unit may have by every plan that is in force.

    While a hook of the leader has shared a new plan, its peers know only the plan before: if the hook
    fails, the next leader goes by that plan.
    """
    plans = [plan for plan in (facts.plan, facts.peers_plan) if plan]
    return min((unit_limit(plan, facts.unit) for plan in plans), default=UNLIMITED)


def _known_users(settings: Settings, current: Plan) -> tuple[str, ...]:
    now = {user.name for user in settings.overrides.users}
    return tuple(sorted(now.union(current.known_users)))


def port_is_published(facts: Facts) -> bool:
    """Return whether every client was given the port that leads to the port of the plan."""
    port = exposure.port_told(facts)
    return all(offer.endpoints.endswith(f":{port}") for offer in facts.published_offers)


def upstream(facts: Facts) -> Upstream | None:
    """Return the server that the pools lead to, once the users of this application exist in it.

    While the login of the backend cannot be read, the server before stays. A server that must be verified
    and cannot be is not used.
    """
    known, auth = facts.backend.credentials, facts.auth
    if not facts.backend.attached or auth is None or not facts.ledger.provisioned_for:
        return None
    if known is None or facts.ledger.provisioned_for != known.user:
        return facts.plan.upstream if facts.plan else None
    if (check := server_check(facts)) is None:
        return None
    # An older leader keeps the name in the ledger when it makes its own schema for another auth user.
    made = facts.ledger.auth_schema == auth.schema_name
    return Upstream(
        endpoints=known.endpoints,
        read_only=known.read_only,
        auth_database=known.database,
        auth_user=auth.auth_user,
        auth_schema=auth.schema_name if made else FORMER_AUTH_SCHEMA,
        auth_alias=AUTH_ALIASES[auth.auth_user == second_auth_user(auth_user(known.user))],
        former_auth_user=auth.former_auth.username if auth.former_auth else "",
        version=known.version,
        mode=check.mode,
        authorities=check.authorities,
        authority_file=known.authority_file if check.verifies else "",
        server_id=facts.ledger.server,
    )


def departed_holding_connections(facts: Facts) -> tuple[DepartedUnit, ...]:
    """Return the units that are gone and may still have connections, which only PostgreSQL can tell."""
    peers = {peer.name for peer in facts.peers}
    limited = facts.plan is not None and facts.plan.settings.max_db_connections > 0
    return tuple(unit for unit in _departed(facts) if limited and unit.name not in peers)


def _departed(facts: Facts) -> Iterator[DepartedUnit]:
    """Yield the units that were members and are not any more.

    A unit without an address, or whose address another unit has now, has no connections. A unit reports
    nothing any more once it is being removed: it may have opened the share in the plan without a report.
    """
    before = facts.plan
    if before is None:
        return
    staying = {peer.name: peer.address for peer in facts.peers if not peer.leaving}
    staying[facts.unit] = facts.address
    budgets = {peer.name: peer.budget for peer in facts.peers}
    # A pod that came back has another address than in the plan, if the leader has run no hook since.
    moved = {peer.name: peer.address for peer in facts.peers if peer.address}
    members = (
        DepartedUnit(name=member.name, address=member.address, held=_most(member, budgets))
        for member in before.members
    )
    for known in {unit.name: unit for unit in (*members, *before.leavers)}.values():
        unit = known.at(moved.get(known.name, known.address))
        if unit.address and unit.name not in staying and unit.address not in staying.values():
            yield unit


def _most(member: Member, budgets: Mapping[str, UnitBudget]) -> int:
    """Return the most connections that a member may have; `budgets` has the reports that are still there."""
    if member.name not in budgets:
        return member.most
    return UnitAllotment(told=member.share, budget=budgets[member.name]).held


def _members(facts: Facts, total: int, reserved: int) -> tuple[Member, ...]:
    before = {member.name: member for member in facts.plan.members} if facts.plan else {}
    me = Peer(
        name=facts.unit, address=facts.address, leaving=facts.leaving, serving=facts.serving,
        budget=facts.budget,
    )  # fmt: skip
    units = [unit for unit in sorted((me, *facts.peers), key=_number) if not unit.leaving]
    told = [
        before[unit.name].share if unit.name in before else unit.budget.share for unit in units
    ]
    claims = [
        UnitAllotment(told=limit, budget=unit.budget)
        for limit, unit in zip(told, units, strict=True)
    ]
    shares = next_unit_limits(total, claims, reserved) if total else (0,) * len(units)
    return tuple(
        Member(
            name=unit.name,
            address=unit.address,
            processors=_processors(facts, unit, before.get(unit.name)),
            share=part,
            held=claim.held if total and claim.held > part else 0,
            restarts=number,
        )
        for unit, claim, part, number in zip(
            units, claims, shares, _restarts(facts, [unit.name for unit in units]), strict=True
        )
    )


def _restarts(facts: Facts, units: Collection[str]) -> Iterator[int]:
    """Yield the number of the restart that each unit may carry out: a unit waits for the units before it.

    A new unit has no process from before the order. No unit waits for a unit without connections to PostgreSQL,
    which has no process.
    """
    plan = facts.plan
    wanted = plan.restarts if plan else 0
    known = {member.name for member in plan.members} if plan else set[str]()
    reports, free = facts.reports, True
    for unit in units:
        before = plan.restarts_of(unit) if plan and unit in known else wanted
        yield wanted if free else before
        waits = unit in known and plan and plan.serves_by(unit)
        free = free and (not waits or reports[unit].restarts >= wanted)


def _processors(facts: Facts, unit: Peer, before: Member | None) -> int:
    """Return the processors that a unit announced; until it announces them, those of the plan before."""
    if unit.name == facts.unit and facts.container.cpus:
        return facts.container.cpus
    return unit.serving.processors if unit.serving else before.processors if before else 0


def _number(unit: Peer) -> tuple[int, str]:
    return (number_of(unit.name), unit.name)


def offer(facts: Facts, request: AccessRequest) -> Offer | None:
    """Return the offer for a client; None while the client could not connect to every unit."""
    granted = grant_for(request) in facts.ledger.grants
    return _offer(facts, request, request.database) if granted else None


def offer_to(facts: Facts, client: Client) -> Offer | None:
    """Return the offer for a client, also for a client whose new request is refused or not served yet.

    Such a client keeps the database of its grant, and has to know the endpoints of that database.
    """
    request = client.request
    grants = (grant for grant in facts.ledger.grants if grant.username == request.username)
    granted = next(grants, None)
    if granted and client.published:
        return _offer(facts, request, granted.database)
    return offer(facts, request)


def is_granted(facts: Facts, request: AccessRequest) -> bool:
    """Return whether a client has what it requests now, so that its answer repeats this request."""
    return not request.kept and grant_for(request) in facts.ledger.grants


def _offer(facts: Facts, request: AccessRequest, database: str) -> Offer | None:
    shared = facts.plan
    if shared is None or shared.upstream is None or not serving_everywhere(facts, database):
        return None
    units = (
        Endpoint(host=member.address, port=shared.settings.listen_port)
        for member in shared.members
        if shared.serves_by(member.name)
    )
    endpoints = endpoints_text(exposure.endpoints(facts) if facts.service_host else units)
    if not endpoints:
        # A client keeps the endpoints that it has until there are new endpoints.
        return None
    alias = read_only_alias(shared, database)
    if not serving_everywhere(facts, alias):
        alias = ""
    offered = Offer(
        database=database,
        endpoints=endpoints,
        read_only_endpoints=endpoints if alias else "",
        read_only_alias=alias,
        version=shared.upstream.version,
    )
    # The interface of `db` and `db-admin` has no fields for TLS.
    return offered if request.endpoint else offered.telling(shared)
