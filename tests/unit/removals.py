"""Steps of a history that remove units as Juju does: their hooks, and what units see in them."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from adapters.local.departure import Departure

MOST_UNITS = 4


class Removals:
    """The rules of `proof/test_histories.py` that remove any unit, the leader, or all units."""

    @precondition(lambda self: len(self.staying()) > 1)
    @rule(place=st.integers(0, MOST_UNITS), servers=st.integers(1, 2))
    def unit_begins_to_leave(self, place, servers):
        name = self.staying()[place % len(self.staying())]
        self.leaving[name] = Departure(self.model, name, servers)

    @precondition(lambda self: len(self.staying()) > 1)
    @rule(servers=st.integers(1, 2))
    def leader_begins_to_leave(self, servers):
        if self.model.leader not in self.leaving:
            self.leaving[self.model.leader] = Departure(self.model, self.model.leader, servers)

    @precondition(lambda self: self.leaving)
    @rule(relations=st.lists(st.integers(0, 9), min_size=1, max_size=9), last=st.integers(0, 30))
    def unit_leaves(self, relations, last):
        """Run some of the hooks of a removal; the last hook may be killed."""
        name, departure = next(iter(self.leaving.items()))
        for number, relation in enumerate(relations, 1):
            ends = last if number == len(relations) else None
            if name in self.failed:
                self.hook(name, "", ends)
            elif left := departure.relations:
                hook = departure.next(left[relation % len(left)])
                self.hook(name, f"{hook.name} {hook.departing}".strip(), ends)
            else:
                self.remove(name)
                return
            self.published_credentials_work()

    def postgresql_may_be_used(self):
        """Return whether an option lets this application log in to PostgreSQL as it is."""
        return True

    @precondition(lambda self: not self.leaving)
    @rule(turns=st.randoms(use_true_random=False), passes=st.booleans(), units=st.integers(1, 2))
    def no_unit_stays(self, turns, passes, units):
        """Remove all units at once; later there are units again."""
        known, grants = self.model.backend.credentials, self.grants_as_read()
        quiet = not (self.server.down or self.server.refuses or self.server.stuck or self.failed)
        quiet = quiet and self.postgresql_may_be_used()
        end = known and quiet and self.model.ledger.provisioned_for == known.user
        self.leaving = {name: Departure(self.model, name) for name in self.platform.units}
        self.void = set(self.model.clients)
        while left := [name for name, departure in self.leaving.items() if departure.relations]:
            name = turns.choice(left)
            hook = self.leaving[name].next(turns.choice(self.leaving[name].relations))
            self.hook(name, f"{hook.name} {hook.departing}".strip())
            if passes and turns.random() < 0.1:
                self.model.leader = turns.choice(list(self.platform.units))
        # A leader may have published credentials before the last leader withdrew the users.
        self.void = set(self.model.clients)
        for name in list(self.leaving):
            self.remove(name)
        # A pod of the same name starts only after the pod before has ended, with its connections.
        self.gone.clear()
        self.server.connected = set()
        for _ in range(units):
            self.platform.add_unit()
        if end and not passes:
            ours = [name for name, role in self.server.roles.items() if role.ours]
            assert (ours, self.server.functions) == ([], set())
            assert self.grants_as_read() == grants

    def grants_as_read(self):
        """Return the grants of the ledger with the names that a hook reads.

        The action that begins a rotation records the rotation alone. Any later hook that records the ledger
        records the grants with the names of their rotations, which `domain.rotating.with_names` gives them.
        """
        ledger = self.model.ledger
        return [grant.named(ledger.rotation_of(grant.first_username)) for grant in ledger.grants]

    def remove(self, name):
        pooler = self.platform.units[name].pooler
        held = sum(pooler.consoles.busy.values())
        # Without a relation, the connections lead to a PostgreSQL that is not related any more.
        if held and self.model.backend.attached:
            self.gone[name] = (self.model.units[name].address, held)
        self.server.connected = {address for address, _ in self.gone.values()}
        del self.leaving[name], self.platform.units[name]
        self.unheard.discard(name)
        # A later unit of this name does not get the hook that failed here.
        self.failed.pop(name, None)
        self.model.remove_unit(name)
        for other in self.staying():
            self.hook(other, f"peers_departed {name}")
