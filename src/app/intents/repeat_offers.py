"""Intent: this unit has answered every client at `db` and `db-admin` in its own databag."""

import dataclasses

from app.outcome import Done
from app.ports import Clients
from domain.facts import Facts
from domain.users import grant_for


@dataclasses.dataclass(frozen=True, slots=True)
class RepeatOffers:
    """Writes what the leader published into the databags of this unit, on every unit.

    Clients of the interface pgsql read the databag of any unit, so each unit repeats the answer. The answer
    repeats the request, too, so it stays while the client does not have what it asks for.
    """

    clients: Clients

    def __call__(self, facts: Facts) -> Done:
        """Repeat what the leader published, unless this unit is being removed."""
        stays = facts.leaving or facts.reference_decides
        for client in () if stays else facts.legacy:
            if not client.shared or grant_for(client.request) in facts.ledger.grants:
                self.clients.repeat(client)
        return Done(facts)
