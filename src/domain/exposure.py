"""Decide which Service leads clients to the units, which endpoints clients are told, and when its kind may change.

A Service of a later kind also has what the kinds before it have. So a change to a later kind keeps the
endpoints that clients have, and a change to an earlier kind waits until every client has its new endpoints.
"""

from collections.abc import Sequence

from domain import sentences
from domain.endpoints import Endpoint, endpoints_text
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.ledger import Ledger
from domain.problems import SERVICE, TRUST
from domain.service import (
    Exposed,
    Kind,
    Service,
    ServiceState,
    UnitNode,
    annotations_in,
    at_least,
)
from domain.value import digest


def known(ledger: Ledger) -> Exposed:
    """Return what the leader knows of the Service. Earlier releases made Services for clients inside alone."""
    return ledger.exposed or Exposed(told="false" if ledger.exposed_ports else None)


def wanted_service(facts: Facts, *, verify: bool) -> Service | None:
    """Return the Service that has to be in Kubernetes now; None if this unit applies no Service.

    With `verify` the application tries to create a Service of its own even if it could not before.
    """
    if not may_write_for_app(facts) or facts.plan is None or not facts.service_host:
        return None
    settings, exposed = facts.plan.settings, known(facts.ledger)
    wanted, kind = settings.expose_external, exposed.kind
    if at_least(wanted, kind) or everyone_is_told(facts):
        kind = wanted
    annotations = annotations_in(settings.loadbalancer_extra_annotations)
    return Service(
        kind=kind,
        ports=facts.plan.ports,
        policy="cluster" if kind == "false" else settings.external_traffic_policy,
        annotations=annotations if kind == "loadbalancer" else (),
        node_ports=() if kind == "false" else exposed.node_ports,
        borrowed=bool(exposed.host) and not verify,
    )


def is_applied(ledger: Ledger, service: Service) -> bool:
    """Return whether the ledger says that Kubernetes has this Service."""
    return (
        ledger.exposed_ports == service.ports
        and known(ledger).applied == _identity(service)
        and not ledger.has(SERVICE)
    )


def with_state(facts: Facts, service: Service, state: ServiceState) -> Ledger:
    """Return the ledger after the Service was applied, and what Kubernetes says of it."""
    host = "" if state.host == facts.service_host else state.host
    exposed = known(facts.ledger).applying(service, _identity(service), state, host)
    ledger = facts.ledger.without(SERVICE).exposing(service.ports, exposed)
    if service.kind == "loadbalancer" and not state.ingress:
        name = state.host.partition(".")[0]
        return ledger.with_problem(sentences.NO_LOAD_BALANCER.problem(SERVICE, service=name))
    return ledger


def wants_nodes(facts: Facts) -> bool:
    """Return whether clients are told, or have, ports of nodes."""
    exposed = known(facts.ledger)
    if exposed.kind == "false" or facts.plan is None:
        return False
    kinds = (facts.plan.settings.expose_external, exposed.told)
    return "nodeport" in kinds or (bool(exposed.nodes) and not everyone_is_told(facts))


def located_units(facts: Facts) -> str:
    """Return what identifies the units whose nodes clients are told.

    A unit that comes back on another node has another address.
    """
    plan = facts.plan
    members = plan.members if plan else ()
    local = plan is not None and plan.settings.external_traffic_policy == "local"
    serves = {peer.name for peer in facts.peers if peer.serving}
    serves |= {facts.unit} if facts.serving else set()
    return digest(
        [
            local,
            *(
                [member.name, member.address, local and member.name in serves]
                for member in members
            ),
        ]
    )


def with_nodes(facts: Facts, nodes: Sequence[UnitNode]) -> Ledger:
    """Return the ledger with the nodes where units run.

    With the policy `local` a node serves clients only if a unit on it is ready. While Kubernetes has not
    found every unit ready, the next hook looks again.
    """
    plan = facts.plan
    local = plan is not None and plan.settings.external_traffic_policy == "local"
    hosts = {node.host for node in nodes if node.ready or not local}
    ready = sum(node.ready for node in nodes)
    complete = bool(hosts) and (not local or (plan is not None and ready >= len(plan.members)))
    exposed = known(facts.ledger)
    exposed = exposed.at_nodes(
        tuple(sorted(hosts)) or exposed.nodes, located_units(facts) if complete else ""
    )
    ledger = facts.ledger.exposing(facts.ledger.exposed_ports, exposed)
    if hosts:
        return ledger
    name = (exposed.host or facts.service_host).partition(".")[0]
    return ledger.with_problem(sentences.NO_NODE.problem(SERVICE, service=name))


def without_nodes(ledger: Ledger) -> Ledger:
    """Return the ledger without nodes, which no client is told any more."""
    exposed = known(ledger).at_nodes((), "")
    return ledger.exposing(ledger.exposed_ports, exposed)


def trusting(ledger: Ledger, *, trusted: bool | None) -> Ledger:
    """Return the ledger with whether this application may create objects; None if that is not known."""
    exposed = known(ledger).trusting(trusted=trusted)
    return ledger.exposing(ledger.exposed_ports, exposed)


def releasing(ledger: Ledger) -> Ledger:
    """Return the ledger after Juju's own Service lost the ports of this application."""
    exposed = known(ledger).releasing()
    return ledger.exposing(ledger.exposed_ports, exposed)


def concluded(facts: Facts) -> Ledger:
    """Return the ledger with the kind that clients are told, the hosts outside, and what needs trust."""
    ledger, exposed = facts.ledger, known(facts.ledger)
    if facts.plan and _reached_by(facts, facts.plan.settings.expose_external):
        exposed = exposed.telling(facts.plan.settings.expose_external)
    outside = tuple(sorted({*exposed.nodes, *exposed.ingress}))
    ledger = ledger.exposing(ledger.exposed_ports, exposed).reached_from(outside)
    if exposed.trusted is not False:
        return ledger.without(TRUST)
    return ledger.with_problem(sentences.NO_TRUST.problem(TRUST, application=facts.application))


def endpoints(facts: Facts) -> tuple[Endpoint, ...]:
    """Return where the Service leads clients to this application; () while that is not known."""
    told = known(facts.ledger).told
    return _reached_by(facts, told) if told else ()


def port_told(facts: Facts) -> int:
    """Return the port of the endpoints that clients are told; 0 while it is not known."""
    if facts.plan is None:
        return 0
    exposed, port = known(facts.ledger), facts.plan.settings.listen_port
    return dict(exposed.node_ports).get(port, 0) if exposed.told == "nodeport" else port


def everyone_is_told(facts: Facts) -> bool:
    """Return whether every client has read the endpoints of the kind that the options want."""
    wanted = facts.plan.settings.expose_external if facts.plan else None
    text = endpoints_text(endpoints(facts))
    told = all(offer.endpoints == text for offer in facts.published_offers)
    return known(facts.ledger).told == wanted and told


def missing(facts: Facts) -> str:
    """Return what Kubernetes has not made or found yet, for which no event comes; '' if nothing is missing."""
    wanted = facts.plan.settings.expose_external if facts.plan else "false"
    if not _reached_by(facts, wanted):
        return "waiting for Kubernetes to give the Service an address"
    if wanted == "nodeport" and not known(facts.ledger).located:
        return "waiting for Kubernetes to find every unit ready"
    return ""


def has_surplus(facts: Facts) -> bool:
    """Return whether the next hook takes away from Kubernetes what no client uses any more."""
    exposed = known(facts.ledger)
    if facts.plan is None or not facts.service_host or facts.ledger.has(SERVICE):
        return False
    surplus = exposed.kind != facts.plan.settings.expose_external or (
        exposed.borrows and not exposed.host
    )
    return surplus and everyone_is_told(facts)


def is_outside(facts: Facts) -> bool:
    """Return whether clients outside of the cluster reach the application, or will."""
    exposed = known(facts.ledger)
    wanted = facts.plan.settings.expose_external if facts.plan else "false"
    return not {wanted, exposed.kind, exposed.told} <= {"false", None}


def hooks_with_news(facts: Facts) -> tuple[str, ...]:
    """Return the events whose hooks have to run even if no value of Juju has changed.

    Kubernetes sends no event for a Service. `juju trust` sends config-changed without another option.
    """
    if not may_write_for_app(facts) or facts.plan is None or not facts.service_host:
        return ()
    outside = ("update_status",) if is_outside(facts) else ()
    untrusted = known(facts.ledger).trusted is False
    return outside + (("config_changed",) if untrusted else ())


def _reached_by(facts: Facts, kind: Kind) -> tuple[Endpoint, ...]:
    """Return the endpoints of this kind; () while Kubernetes has not made them."""
    exposed, plan = known(facts.ledger), facts.plan
    port = plan.settings.listen_port if plan else 0
    if port not in facts.ledger.exposed_ports or not at_least(exposed.kind, kind):
        return ()
    if kind == "false":
        return (Endpoint(host=exposed.host or facts.service_host, port=port),)
    if kind == "loadbalancer":
        return tuple(Endpoint(host=host, port=port) for host in exposed.ingress)
    node_port = dict(exposed.node_ports).get(port)
    hosts = exposed.nodes if node_port else ()
    return tuple(Endpoint(host=host, port=node_port or port) for host in hosts)


def _identity(service: Service) -> str:
    return digest(service.model_dump(mode="json", exclude={"node_ports", "borrowed"}))
