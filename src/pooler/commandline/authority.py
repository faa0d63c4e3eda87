"""The verb of the certificate authority of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooler.commandline.verb import verb

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs

ACTIONS = ("show", "renew", "rotate", "stop", "start")


def add(verbs: Verbs) -> None:
    """Add `authority`."""
    authority = verb(
        verbs,
        "authority",
        "authority:authority",
        "show or change the certificate authority of `up --tls`",
        about="Show the authority and the certificates of the units, or change them. `renew` gives every"
        " unit a new key and certificate, `rotate` puts a new authority in place of the authority,"
        " `stop` lets it issue nothing, and `start` ends that. Clients stay connected.",
        reads=lambda arguments: arguments.action == "show",
    )
    authority.add_argument(
        "action", nargs="?", choices=ACTIONS, default=ACTIONS[0], help="by default show"
    )
