"""The ledger: what the leader has made in PostgreSQL and told clients, for the next leader."""

from domain.endpoints import Host
from domain.made import Made
from domain.problems import KUBERNETES, Level, Problem
from domain.rotation import Rotation
from domain.service import Exposed
from domain.users import Grant
from domain.value import Count, Name, Value


class Ledger(Value):
    """What the leader has made in PostgreSQL and Kubernetes, and the problems that it met there.

    The peer databag has it for all units, so that a later hook or leader need not ask PostgreSQL again.
    """

    # The user of the backend that made the roles of this application.
    provisioned_for: str = ""
    # The identity of the server in which they were made, as the server gives it.
    server: str = ""
    # The schema in which the function of the auth user was made; '' in the ledger of an earlier release.
    auth_schema: str = ""
    # Connections that PostgreSQL accepts from ordinary users; 0 if that is not known.
    capacity: Count = 0
    grants: tuple[Grant, ...] = ()
    # The ports of the Service.
    exposed_ports: tuple[int, ...] = ()
    problems: tuple[Problem, ...] = ()
    # Roles and databases that this application made, by OID.
    made: Made = Made()
    # Databases that clients with the role createdb made.
    roamed: tuple[Name, ...] = ()
    # Roles and databases that the options allowed when the grants were made.
    allowed: tuple[str, ...] = ()
    # Sentences on what stays in a PostgreSQL whose relation has ended.
    left: tuple[str, ...] = ()
    # What is known of the Service; None in the ledger of an earlier release.
    exposed: Exposed | None = None
    # Hosts by which clients outside of the cluster reach the application.
    outside: tuple[Host, ...] = ()
    # The authorities and endpoints of PostgreSQL that were verified; '' before that.
    verified: str = ""
    # A digest of what clients were told of TLS and its authorities; '' if they were told that there is no TLS.
    told_tls: str = ""
    # A digest of what observers were told; '' if they were told nothing.
    told_observers: str = ""
    # Clients that have their second name, or whose credentials are being rotated.
    rotations: tuple[Rotation, ...] = ()
    # How often Juju asks for new passwords of PgBouncer's own users; '' before Juju was told.
    rotation_period: str = ""

    def rotation_of(self, first_username: str) -> Rotation:
        """Return the rotation of a client by its first name."""
        known = (known for known in self.rotations if known.username == first_username)
        return next(known, Rotation(username=first_username))

    def rotating(self, rotation: Rotation) -> "Ledger":
        """Return this ledger with another state of the rotation of a client."""
        others = [known for known in self.rotations if known.username != rotation.username]
        kept = [known for known in (*others, rotation) if known.kept]
        ordered = sorted(kept, key=lambda known: known.username)
        return self.model_copy(update={"rotations": tuple(ordered)})

    def telling(self, told_tls: str) -> "Ledger":
        """Return this ledger after all clients that have credentials were told this of TLS."""
        return self.model_copy(update={"told_tls": told_tls})

    def telling_observers(self, told_observers: str) -> "Ledger":
        """Return this ledger after all observers were told this of the application."""
        return self.model_copy(update={"told_observers": told_observers})

    def with_problem(self, problem: Problem) -> "Ledger":
        """Return this ledger with a problem, which replaces an older problem with its topic."""
        kept = self.without(problem.topic).problems
        return self.model_copy(update={"problems": (*kept, problem)})

    def without(self, topic: str) -> "Ledger":
        """Return this ledger without a problem of this topic."""
        kept = tuple(problem for problem in self.problems if problem.topic != topic)
        return self.model_copy(update={"problems": kept})

    def proving(self, verified: str) -> "Ledger":
        """Return this ledger after every endpoint of PostgreSQL was verified, or has to be verified again."""
        return self.without("verification").model_copy(update={"verified": verified})

    def making(self, made: Made) -> "Ledger":
        """Return this ledger with the roles that exist now."""
        return self.model_copy(update={"made": made})

    def asking_to_rotate(self, period: str) -> "Ledger":
        """Return this ledger after Juju was told how often to ask for new passwords."""
        return self.model_copy(update={"rotation_period": period})

    def exposing(self, ports: tuple[int, ...], exposed: Exposed) -> "Ledger":
        """Return this ledger with the ports of the Service, and what is known of it."""
        return self.model_copy(update={"exposed_ports": ports, "exposed": exposed})

    def reached_from(self, outside: tuple[Host, ...]) -> "Ledger":
        """Return this ledger with these hosts for clients outside of the cluster."""
        return self.model_copy(update={"outside": outside})

    def reconciling(
        self,
        *,
        provisioned_for: str,
        server: str,
        auth_schema: str,
        capacity: int,
        grants: tuple[Grant, ...],
        problems: tuple[Problem, ...],
        made: Made,
        roamed: tuple[Name, ...],
        allowed: tuple[str, ...],
    ) -> "Ledger":
        """Return this ledger after the leader made in PostgreSQL what its clients asked for.

        Rotations are added by `rotating`: a client without a row has a single name.
        """
        return self.model_copy(
            update={
                "provisioned_for": provisioned_for, "server": server, "auth_schema": auth_schema,
                "capacity": capacity, "grants": grants, "problems": problems, "made": made,
                "roamed": roamed, "allowed": allowed, "left": (), "rotations": (),
            }
        )  # fmt: skip

    def withdrawing(self, made: Made, left: tuple[str, ...]) -> "Ledger":
        """Return this ledger after the roles of this application were dropped.

        The grants stay: a unit that is related again gives their users the passwords that they had.
        """
        return self.model_copy(
            update={
                "provisioned_for": "", "auth_schema": "", "made": made, "left": left,
                "roamed": (),
            }
        )  # fmt: skip

    def granting(self, grants: tuple[Grant, ...]) -> "Ledger":
        """Return this ledger with these grants in place of its own."""
        return self.model_copy(update={"grants": grants})

    def without_backend(self) -> "Ledger":
        """Return what stays of this ledger when the relation with PostgreSQL has ended.

        Roles that could not be dropped stay those of this application if PostgreSQL is related again.
        """
        return Ledger(
            exposed_ports=self.exposed_ports,
            exposed=self.exposed,
            outside=self.outside,
            problems=tuple(problem for problem in self.problems if problem.topic in KUBERNETES),
            made=self.made,
            left=self.left,
            told_observers=self.told_observers,
        )

    def has(self, topic: str) -> bool:
        """Return whether there is a problem of this topic."""
        return any(problem.topic == topic for problem in self.problems)

    @property
    def troubles(self) -> tuple[Problem, ...]:
        """Return the problems that need an action or a wait: all but the notes at level active."""
        return tuple(problem for problem in self.problems if problem.level != Level.ACTIVE)
