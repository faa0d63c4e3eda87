"""Platforms in memory whose units keep certificates for clients."""

import base64

import pydantic
from in_memory import related

from app.outcome import AskAgain
from domain.tls import ServedPair, UnitCertificates


def certificate(name):
    text = base64.b64encode(name.encode()).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----"


ROOT, OTHER = certificate("root"), certificate("other root")


def pair_of(unit, root=ROOT, turn=1):
    key, leaf = f"key {turn} of {unit}", certificate(f"{turn} of {unit}")
    return ServedPair(key=pydantic.SecretStr(key), chain=(leaf,), authorities=(root,))


def give(platform, *units, root=ROOT, turn=1):
    """Let each of these units keep a pair."""
    for unit in units:
        record = platform.model.units[unit.name]
        pair = pair_of(unit.name, root, turn)
        record.certificates = UnitCertificates(related=True, kept=pair)


def run(platform):
    """Run the hooks that the platform promises to units that ask again, until no unit does."""
    for _ in range(20):
        platform.settle()
        units = [platform.leader, *platform.followers]
        outcomes = [unit.update_status() for unit in units]
        if not any(isinstance(outcome, AskAgain) for outcome in outcomes):
            return
    raise AssertionError("a unit asks again for ever")


def encrypted(units=2):
    """Return a platform whose units serve TLS, and the relation of its client."""
    platform = related(units=units)
    number = platform.relate("shop-app", "shop")
    give(platform, *platform.units.values())
    run(platform)
    return platform, number
