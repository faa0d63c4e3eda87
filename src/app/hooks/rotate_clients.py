"""The part of the action rotate-credentials that gives client users new credentials.

The design, and the reasons for it, are in `domain.rotation`. This part only records in the ledger that the
rotation begins. The hooks after that do the rest, and each goes on where a hook before it ended:

- `ReconcileAccess` gives the client's role its new name in PostgreSQL. It begins in the next hook, because
  PostgreSQL commits at once and Juju keeps the ledger only if the hook succeeds.
- `PublishEndpoints` gives the client its new name and password once they work at every unit.
- `ReconcileAccess` drops the role with the former name after it has expired.
"""

import dataclasses
from collections.abc import Iterable

from app.errors import ActionFailed
from app.ports import Peers
from domain.facts import Client, Facts
from domain.rotating import progress
from domain.rotation import DAY


@dataclasses.dataclass(frozen=True, slots=True)
class RotateClients:
    """Gives client users new names and passwords.

    - A client that has no credentials yet is left out: its credentials are new anyway.
    - While the rotation before still has a former user, no other rotation of this client begins.
    """

    peers: Peers

    def __call__(
        self, facts: Facts, application: str, seconds: int = DAY
    ) -> tuple[Facts, tuple[str, ...]]:
        """Begin the rotation for an application, or for all with ''.

        `seconds` is how long the former credentials stay valid after a client was told its new credentials.
        Returns the facts after that, and a sentence for the operator for each client. Raises ActionFailed.
        """
        ledger, told = facts.ledger, list[str]()
        for client in self.check(facts, application):
            request = client.request
            known = ledger.rotation_of(request.first_username)
            if not known.open:
                known = known.again(seconds)
                ledger = ledger.rotating(known)
                cut = ", and its sessions end when it was told" if known.at_once else ""
                told.append(
                    f"{request.application} gets user {known.current} in place of {known.former}{cut}"
                )
            else:
                told.append(
                    f"{request.application} is being rotated already: {progress(facts, known)}"
                )
        if ledger != facts.ledger:
            self.peers.record(ledger)
        return facts.recording(ledger), tuple(told)

    def check(self, facts: Facts, application: str) -> list[Client]:
        """Return the clients of an application, or all with '', that can be rotated. Raises ActionFailed."""
        if not facts.backend_ready:
            raise ActionFailed(
                "client users cannot be rotated while PostgreSQL is not ready: see the status"
            )
        chosen = [
            client
            for client in facts.clients
            if client.published and application in ("", client.request.application)
        ]
        if application and not chosen:
            raise ActionFailed(_unknown(application, facts.clients))
        return chosen


def _unknown(application: str, clients: Iterable[Client]) -> str:
    names = sorted({client.request.application for client in clients if client.published})
    known = ", ".join(names) or "none"
    return f"no application {application[:60]!r} has credentials: applications with credentials are {known}"
