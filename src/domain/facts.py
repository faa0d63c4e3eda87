"""What can one unit see, at one moment?"""

import pydantic

from domain.applied import AppliedState
from domain.budget import UNLIMITED, UnitBudget
from domain.capabilities import PgBouncerRuntime, Version, capabilities
from domain.instances import Layout
from domain.made import Made
from domain.pools import Endpoint, Plan, Serving
from domain.roles import ROAMING
from domain.settings import Settings
from domain.status import Level, Problem
from domain.users import AccessRequest, AuthMaterial, Grant, Offer, Refusal
from domain.value import Count, Line, Name, Value


class Container(Value):
    """Where PgBouncer runs, and what it runs with."""

    reachable: bool = False
    timed_out: bool = False  #: the container exists, and did not answer in time
    program: PgBouncerRuntime | None = None  #: None until it was asked
    running: frozenset[int] = frozenset()  #: processes, by index
    #: processes, by index, that did not answer on their sockets, until they have answered again
    unresponsive: frozenset[int] = frozenset()
    ending: frozenset[int] = frozenset()  #: processes that let their transactions finish
    applied: AppliedState | None = None  #: the last configuration that was applied in full

    @property
    def version(self) -> Version | None:
        """Of PgBouncer."""
        return self.program.version if self.program else None

    @property
    def cpus(self) -> int:
        """That may be used; 0 until that was asked."""
        return self.program.cpus if self.program else 0

    @property
    def runs(self) -> bool:
        """Whether every process that should run does."""
        wanted = self.applied.instances if self.applied else ()
        return self.applied is not None and self.running.issuperset(one.index for one in wanted)


class BackendLogin(Value):
    """What the PostgreSQL charm gave us: a superuser of its own, and where to find the server."""

    user: Line
    password: pydantic.SecretStr
    database: Line
    endpoints: tuple[Endpoint, ...] = pydantic.Field(min_length=1)
    read_only: tuple[Endpoint, ...] = ()
    version: str = ""


class BackendRelation(Value):
    """The relation with PostgreSQL."""

    related: bool = False
    present: bool = (
        False  #: at least one of its units is there: none yet, or no more, is no backend
    )
    requested: bool = False  #: we have said what we need
    credentials: BackendLogin | None = None
    problem: str = ""  #: why there are no credentials yet, as a sentence

    @property
    def attached(self) -> bool:
        """Whether there is a server to lead pools to."""
        return self.related and self.present


class Client(Value):
    """A request, and what its application was last told."""

    request: AccessRequest
    told: Offer | None = None  #: None until it has credentials


class Peer(Value):
    """Another unit of the application."""

    name: str
    address: str = ""
    leaving: bool = False
    serving: Serving | None = None
    stake: UnitBudget = UnitBudget()


class Ledger(Value):
    """What the leader has made outside, so that it need not ask again, and what went wrong there.

    It is shared by all units, and saved with what it speaks of or not at all.
    """

    provisioned_for: str = ""  #: the backend user under which our own users were made
    server: str = ""  #: the server in which they were made, as it says itself
    capacity: Count = 0  #: connections that PostgreSQL accepts from ordinary users; 0 is not known
    grants: tuple[Grant, ...] = ()
    exposed_ports: tuple[int, ...] = ()
    problems: tuple[Problem, ...] = ()
    made: Made = Made()  #: roles and databases that this application made, by OID
    roamed: tuple[Name, ...] = ()  #: databases that clients made for themselves
    allowed: tuple[str, ...] = ()  #: roles and databases that the options allowed at that time
    left: tuple[str, ...] = ()  #: sentences on what stays in a PostgreSQL without a relation

    def with_problem(self, problem: Problem) -> "Ledger":
        """The same with this problem, in place of an older one on its topic."""
        others = self.without(problem.topic).problems
        return self.model_copy(update={"problems": (*others, problem)})

    def without(self, topic: str) -> "Ledger":
        """The same with nothing wrong on this topic."""
        left = tuple(problem for problem in self.problems if problem.topic != topic)
        return self.model_copy(update={"problems": left})

    def has(self, topic: str) -> bool:
        """Whether something is wrong on this topic."""
        return any(problem.topic == topic for problem in self.problems)

    @property
    def troubles(self) -> tuple[Problem, ...]:
        """Return the problems that need an action or a wait: all but the notes at level active."""
        return tuple(problem for problem in self.problems if problem.level != Level.ACTIVE)


class Facts(Value):
    """One look at the world. Facts only: what follows from them is decided elsewhere."""

    unit: str  #: e.g. `pgbouncer/0`
    address: str
    leader: bool
    leaving: bool = False  #: this unit is being removed
    #: every unit of the application is being removed; read only by a leader that is being removed
    last_unit: bool = False
    settings: Settings | None  #: None if an option is invalid
    settings_problems: tuple[str, ...] = ()
    layout: Layout
    container: Container = Container()
    leader_address: str = ""  #: as the leader last said
    plan: Plan | None = None  #: as the leader last shared
    auth: AuthMaterial | None = None  #: likewise, in a secret
    ledger: Ledger = Ledger()
    #: Values of the leader that this release cannot read: `plan`, `ledger` or `secret`.
    unreadable: tuple[str, ...] = ()
    serving: Serving | None = None  #: as this unit last announced
    stake: UnitBudget = UnitBudget()  #: likewise
    agreed: int = UNLIMITED  #: connections to one database, by the plan that others know already
    peers: tuple[Peer, ...] = ()
    backend: BackendRelation = BackendRelation()
    clients: tuple[Client, ...] = ()  #: only the leader looks
    refusals: tuple[Refusal, ...] = ()
    silent: frozenset[int] = frozenset()  #: relations of clients that ask for nothing (yet)
    problems: tuple[Problem, ...] = ()  #: of this unit, met while acting on these facts
    #: The beginning of the command that sets options, e.g. `juju config pgbouncer-k8s`.
    configure_command: str = "juju config pgbouncer-k8s"
    service_host: str = ""  #: one name that leads to all units; '' if they are reached one by one

    @property
    def configured(self) -> bool:
        """A pooler configuration exists in the container or among the peers."""
        return self.plan is not None or self.container.applied is not None

    @property
    def has_problems(self) -> bool:
        """Whether something went wrong that may mend itself."""
        wrong = self.problems or self.ledger.troubles or self.unreadable
        return bool(wrong or self.container.unresponsive)

    @property
    def roaming(self) -> bool:
        """Return whether a client can make databases, which appear without an event."""
        return any(ROAMING.intersection(grant.roles) for grant in self.ledger.grants)

    @property
    def standing(self) -> tuple[Grant, ...]:
        """Access that was given and is still wanted.

        A client whose request cannot be read or served just now keeps what it has.
        """
        asked = {client.request.username for client in self.clients}
        unclear = self.silent.union(refusal.relation_id for refusal in self.refusals)
        return tuple(
            grant
            for grant in self.ledger.grants
            if grant.username in asked or grant.relation_id in unclear
        )

    @property
    def backend_ready(self) -> bool:
        """Connection facts are known, our users exist, and PostgreSQL answered when last asked."""
        provisioned = self.plan is not None and self.plan.upstream is not None
        return (
            self.backend.attached
            and provisioned
            and self.auth is not None
            and not self.ledger.has("database")
        )

    @property
    def supported(self) -> bool:
        """Whether this PgBouncer is new enough, as far as is known."""
        version = self.container.version
        return version is None or capabilities(version).supported
