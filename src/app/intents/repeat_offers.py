"""Intent: this unit has answered every client at `db` and `db-admin` in its own databag."""

import dataclasses

from app.outcome import Done
from app.ports import Clients
from domain.facts import Facts
from domain.planning import is_granted


@dataclasses.dataclass(frozen=True, slots=True)
class RepeatOffers:
    """Writes what the leader published into the databags of this unit, on every unit.

    Clients of the interface pgsql read the databag of any unit, so each unit repeats the answer. The answer
    repeats the request, too: while a client does not have what it asks for, the request that it was granted.
    """

    clients: Clients

    def __call__(self, facts: Facts) -> Done:
        """Repeat what the leader published, unless this unit is being removed."""
        stays = facts.leaving or facts.reference_decides
        for client in () if stays else facts.legacy:
            self.clients.repeat(client, granted=is_granted(facts, client.request))
        return Done(facts)
