"""The Service by which clients reach the units: what it has to be, and what Kubernetes made of it."""

import json
import re
from typing import Literal, cast

from domain.endpoints import Address, Host, Port
from domain.value import Value

# Each kind also has what the kinds before it have: a name inside of the cluster, ports on every node, and
# an address of a load balancer.
Kind = Literal["false", "nodeport", "loadbalancer"]
KINDS: tuple[Kind, ...] = ("false", "nodeport", "loadbalancer")

TrafficPolicy = Literal["cluster", "local"]

# A port of the Service, and the port by which every node leads to it.
NodePort = tuple[Port, Port]

Annotation = tuple[str, str]

# Kubernetes refuses an object with more bytes of annotations, foreign annotations included.
_MOST_BYTES = 65_536
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_PREFIX = re.compile(rf"(?=.{{1,253}}/){_LABEL}(\.{_LABEL})*/", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Service(Value):
    """The Service that has to be in Kubernetes."""

    kind: Kind
    ports: tuple[int, ...]
    policy: TrafficPolicy = "cluster"
    # Sorted by name.
    annotations: tuple[Annotation, ...] = ()
    # The ports of nodes that clients have. A Service that has lost them gets them again if they are free.
    node_ports: tuple[NodePort, ...] = ()
    # Use Juju's own Service at once: this application may not create a Service.
    borrowed: bool = False

    def without_node_ports(self) -> "Service":
        """Return this Service with ports of nodes that Kubernetes chooses."""
        return self.model_copy(update={"node_ports": ()})


class ServiceState(Value):
    """What Kubernetes says of the Service."""

    # The name by which clients inside of the cluster reach it.
    host: Host
    node_ports: tuple[NodePort, ...] = ()
    # Addresses of the load balancer, sorted.
    ingress: tuple[Host, ...] = ()


class UnitNode(Value):
    """The node where a unit runs."""

    host: Host
    # Kubernetes sends clients to the unit.
    ready: bool


class Exposed(Value):
    """What the leader knows of the Service, and how it leads clients to it."""

    # The kind of the Service in Kubernetes.
    kind: Kind = "false"
    # Identifies what was applied.
    applied: str = ""
    # The name inside of the cluster; '' for that of the application's own Service.
    host: Address = ""
    node_ports: tuple[NodePort, ...] = ()
    ingress: tuple[Host, ...] = ()
    # Where units run, as clients reach these nodes, and what identifies the units that were looked for.
    nodes: tuple[Host, ...] = ()
    located: str = ""
    # The kind whose endpoints clients are told; None before any was reachable.
    told: Kind | None = None
    # Whether this application may create objects in Kubernetes; None if that is not known.
    trusted: bool | None = None
    # Juju's own Service has ports of this application.
    borrows: bool = False

    def at_nodes(self, hosts: tuple[Host, ...], located: str) -> "Exposed":
        """Return this with the nodes of the units that `located` identifies; '' if not every unit was found."""
        return self.model_copy(update={"nodes": hosts, "located": located})

    def trusting(self, *, trusted: bool | None) -> "Exposed":
        """Return this with whether this application may create objects; None if that is not known."""
        return self.model_copy(update={"trusted": trusted})

    def releasing(self) -> "Exposed":
        """Return this after Juju's own Service lost the ports of this application."""
        return self.model_copy(update={"borrows": False})

    def telling(self, kind: Kind) -> "Exposed":
        """Return this after clients were told the endpoints of this kind."""
        return self.model_copy(update={"told": kind})

    def applying(
        self, service: Service, identity: str, state: ServiceState, host: Address
    ) -> "Exposed":
        """Return this after the Service was applied; `host` is '' for that of the application's own Service.

        A load balancer that has lost its address keeps the address that clients have, until it has another.
        """
        kept = self.ingress if host == self.host else ()
        # With a Service of its own, the application may be allowed to do what it was not allowed to do before.
        trusted = None if self.host else self.trusted
        return self.model_copy(
            update={
                "kind": service.kind,
                "applied": identity,
                "host": host,
                "node_ports": state.node_ports,
                "ingress": (state.ingress or kept) if service.kind == "loadbalancer" else (),
                "trusted": False if host else trusted,
                "borrows": self.borrows or bool(host),
            }
        )


def at_least(kind: Kind, other: Kind) -> bool:
    """Return whether a Service of `kind` also has what a Service of the other kind has."""
    return KINDS.index(kind) >= KINDS.index(other)


def annotations_in(text: str) -> tuple[Annotation, ...]:
    """Return the annotations in a JSON object of texts, sorted by name; () for an empty text.

    Raises ValueError with a sentence about the first annotation that Kubernetes would refuse.
    """
    if not text.strip():
        return ()
    if len(text.encode(errors="surrogatepass")) > _MOST_BYTES:
        raise ValueError(f"the text is longer than {_MOST_BYTES} bytes")
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the text is not JSON") from None
    if not isinstance(found, dict):
        # pydantic turns a ValueError, and no TypeError, into the sentence of the option.
        raise ValueError('the text is not a JSON object such as {"name": "text"}')  # noqa: TRY004 — see above
    pairs = sorted(cast("dict[str, object]", found).items())
    return tuple(_annotation(name, value) for name, value in pairs)


def _annotation(name: str, value: object) -> Annotation:
    if not _NAME.fullmatch(_PREFIX.sub("", name, count=1) if _PREFIX.match(name) else name):
        raise ValueError(f"Kubernetes accepts no annotation with the name {name[:63]!a}")
    if not isinstance(value, str):
        raise ValueError(f"the value of {name[:63]} is not a text")  # noqa: TRY004 — as above
    if _SURROGATE.search(value):
        raise ValueError(f"the value of {name[:63]} has a letter that is not valid")
    return (name, value)
