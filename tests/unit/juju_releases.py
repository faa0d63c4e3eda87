"""What hook tools of Juju 3.6 and Juju 4 tell a charm differently.

Neither release has `leader-get` and `leader-set` here: Scenario has no such hook tools.
"""

import copy
import dataclasses

JUJU_3, JUJU_4 = "3.6.14", "4.0.16"
RELEASES = (JUJU_3, JUJU_4)

# The keys that Juju 3.6 writes into the databag of each unit. Juju 4 writes no `private-address`.
ADDRESSES = dict.fromkeys(("egress-subnets", "ingress-address", "private-address"), "192.0.2.0")
ONLY_IN_3 = "private-address"


def with_addresses(relation, release):
    """Return the relation with the keys that this release writes into the databags of units."""
    changes = {"local_unit_data": _unit(relation.local_unit_data, release)}
    for field in ("remote_units_data", "peers_data"):
        if (databags := getattr(relation, field, None)) is not None:
            changes[field] = {unit: _unit(bag, release) for unit, bag in databags.items()}
    if all(getattr(relation, field) == bags for field, bags in changes.items()):
        return relation
    return dataclasses.replace(relation, **changes)


def _unit(databag, release):
    known = {**ADDRESSES, **databag}
    return {key: text for key, text in known.items() if release == JUJU_3 or key != ONLY_IN_3}


def after_a_killed_hook(state, read, release):
    """Return Juju's state after a killed hook that had asked for the newest revision of the secrets in `read`.

    Juju 3.6 keeps at once which revision a unit reads. Juju 4 keeps it with everything else that the hook
    wrote, so a killed hook changes nothing.
    """
    if release != JUJU_3:
        return state
    secrets = {copy.copy(secret) for secret in state.secrets}
    for secret in secrets:
        if secret.id in read:
            secret._track_latest_revision()
    return dataclasses.replace(state, secrets=secrets)
