"""TLS for clients on the platform in memory: when units serve it, and what clients are told of it."""

import pytest
from crash_core import States, twin
from crash_core import run as killed_after
from in_memory import related, settings_of, worst
from tls_in_memory import OTHER, ROOT, encrypted, give, pair_of, run

from adapters.memory import MemoryPlatform
from app.outcome import AskAgain
from domain.applied import PLAIN_HOOKS
from domain.capabilities import Version
from domain.tls import UnitCertificates


def told(platform, number):
    """Return what a client reads of TLS."""
    offer = platform.model.clients[number].told
    return (offer.tls, offer.tls_ca)


def served_keys(unit):
    """Return the keys that a unit serves TLS with."""
    files = unit.pooler.config.client_files
    return [file.text.get_secret_value() for file in files[:1]]


def option(platform, value):
    """Set client_tls_sslmode, and run the hook of the leader for it."""
    platform.model.options["client_tls_sslmode"] = value
    platform.leader.config_changed()


def test_clients_are_told_when_the_last_unit_serves_tls():
    platform = related()
    number = platform.relate("shop-app", "shop")
    give(platform, platform.leader)
    run(platform)
    assert told(platform, number) == (False, "")
    give(platform, *platform.followers)
    run(platform)
    assert told(platform, number) == (True, ROOT + "\n")
    assert settings_of(platform.leader)["client_tls_sslmode"] == "prefer"


def test_a_new_client_is_told_like_the_clients_before():
    platform, _ = encrypted()
    number = platform.relate("billing", "bills")
    assert told(platform, number) == (True, ROOT + "\n")


def test_a_renewal_reloads_processes_and_tells_clients_nothing():
    platform, number = encrypted()
    unit = platform.followers[0]
    published = platform.model.clients[number].told
    unit.pooler.taken.clear()
    give(platform, unit, turn=2)
    run(platform)
    assert served_keys(unit) == [f"key 2 of {unit.name}"]
    assert {step.action for step in unit.pooler.taken} == {"reload"}
    assert platform.model.clients[number].told == published


def test_a_key_that_does_not_fit_leaves_the_pair_before():
    platform, _ = encrypted()
    unit = platform.followers[0]
    unit.pooler.unfit.add(f"key 2 of {unit.name}")
    give(platform, unit, turn=2)
    unit.update_status()
    assert served_keys(unit) == [f"key 1 of {unit.name}"]


def test_both_authorities_are_told_while_units_serve_either():
    platform, number = encrypted()
    follower = platform.followers[0]
    record = platform.model.units[follower.name]
    issued = pair_of(follower.name, OTHER, 2)
    record.certificates = record.certificates.model_copy(update={"issued": issued})
    run(platform)
    assert told(platform, number) == (True, f"{ROOT}\n{OTHER}\n")
    record.certificates = record.certificates.keeping(issued)
    run(platform)
    assert served_keys(follower) == [f"key 2 of {follower.name}"]
    give(platform, platform.leader, root=OTHER, turn=2)
    run(platform)
    assert told(platform, number) == (True, OTHER + "\n")


@pytest.mark.parametrize("leads", [True, False])
def test_a_certificate_is_not_served_before_clients_know_its_authority(leads):
    platform, number = encrypted()
    unit = platform.leader if leads else platform.followers[0]
    give(platform, unit, root=OTHER, turn=2)
    outcome = unit.update_status()
    assert isinstance(outcome, AskAgain) is leads
    assert served_keys(unit) == [f"key 1 of {unit.name}"]
    run(platform)
    assert served_keys(unit) == [f"key 2 of {unit.name}"]
    assert set(told(platform, number)[1].split("\n\n")) <= {f"{ROOT}\n{OTHER}\n"}


def test_a_new_unit_serves_nothing_before_it_has_a_certificate():
    platform, number = encrypted()
    new = platform.add_unit()
    for hook in (new.peers_created, new.start, new.pebble_ready, platform.leader.peers_changed):
        hook()
    platform.settle()
    assert not new.pooler.running
    assert "waiting for a certificate" in worst_text(new)
    assert told(platform, number) == (True, ROOT + "\n")
    give(platform, new)
    run(platform)
    assert new.pooler.running
    assert served_keys(new) == [f"key 1 of {new.name}"]


def test_the_authority_of_a_new_unit_is_told_before_the_unit_serves():
    platform, number = encrypted()
    new = platform.add_unit()
    new.peers_created()
    give(platform, new, root=OTHER)
    new.start()
    assert not new.pooler.running
    platform.settle()
    assert told(platform, number) == (True, f"{ROOT}\n{OTHER}\n")
    assert new.pooler.running


def worst_text(unit):
    return worst(unit).text


def test_an_authority_stays_while_its_unit_does_not_run():
    platform, number = encrypted()
    follower = platform.followers[0]
    give(platform, follower, root=OTHER, turn=2)
    run(platform)
    assert told(platform, number) == (True, f"{ROOT}\n{OTHER}\n")
    platform.model.units[follower.name].serving = None
    platform.leader.peers_changed()
    assert told(platform, number) == (True, f"{ROOT}\n{OTHER}\n")


def test_an_authority_stays_while_the_container_of_its_unit_does_not_answer():
    platform, number = encrypted()
    follower = platform.followers[0]
    follower.pooler.reachable = False
    give(platform, *platform.units.values(), root=OTHER, turn=2)
    for _ in range(3):
        for unit in platform.units.values():
            unit.peers_changed()
    assert told(platform, number) == (True, f"{ROOT}\n{OTHER}\n")
    follower.pooler.reachable = True
    run(platform)
    assert told(platform, number) == (True, f"{OTHER}\n")


def test_with_disable_clients_are_told_before_any_unit_stops():
    platform, number = encrypted()
    platform.model.options["client_tls_sslmode"] = "disable"
    assert isinstance(platform.leader.config_changed(), AskAgain)
    assert told(platform, number) == (False, "")
    assert all(served_keys(unit) for unit in platform.units.values())
    run(platform)
    assert not any(served_keys(unit) for unit in platform.units.values())
    assert "client_tls_sslmode" not in settings_of(platform.leader)


def test_clients_are_told_although_postgresql_does_not_answer():
    platform, number = encrypted()
    platform.databases.server.down = "PostgreSQL is down"
    platform.leader.update_status()
    option(platform, "disable")
    assert told(platform, number) == (False, "")


def test_when_the_authority_has_gone_clients_are_told_that_tls_ends():
    platform, number = encrypted()
    for unit in platform.units.values():
        record = platform.model.units[unit.name]
        record.certificates = record.certificates.model_copy(update={"related": False})
    platform.leader.update_status()
    assert told(platform, number) == (False, "")
    assert all(served_keys(unit) for unit in platform.units.values())


def test_required_tls_goes_on_when_the_authority_has_gone():
    platform, number = encrypted()
    option(platform, "require")
    run(platform)
    assert not worst_text(platform.leader)
    for unit in platform.units.values():
        record = platform.model.units[unit.name]
        record.certificates = record.certificates.model_copy(update={"related": False})
    run(platform)
    assert told(platform, number) == (True, ROOT + "\n")
    assert "served until it expires" in worst_text(platform.leader)


def test_clients_are_told_that_tls_ends_when_a_unit_serves_none():
    """An earlier release of the charm serves no TLS."""
    platform, number = encrypted()
    record = platform.model.units[platform.followers[0].name]
    record.serving = record.serving.model_copy(update={"tls": False, "authorities": ()})
    platform.leader.peers_changed()
    assert told(platform, number) == (False, "")


def network_rules(unit):
    return [rule.origins for rule in unit.pooler.config.rules if rule.admits]


@pytest.mark.parametrize("related_authority", [True, False])
def test_required_tls_admits_no_plain_login_before_a_certificate(related_authority):
    platform = related()
    for record in platform.model.units.values():
        record.certificates = UnitCertificates(related=related_authority)
    option(platform, "require")
    run(platform)
    number = platform.model.relate("shop-app", "shop")
    platform.leader.clients_changed()
    run(platform)
    for unit in platform.units.values():
        assert network_rules(unit) == [("local",), ("local", "hostssl")]
        assert ("waiting for" if related_authority else "no relation certificates") in worst_text(
            unit
        )
    assert platform.model.clients[number].told is None
    give(platform, *platform.units.values())
    run(platform)
    assert told(platform, number) == (True, ROOT + "\n")
    assert settings_of(platform.leader)["client_tls_sslmode"] == "require"


def test_plain_sessions_end_when_tls_is_required():
    platform, _ = encrypted()
    unit = platform.leader
    unit.pooler.consoles.plain = {0: [False, True], 1: [False]}
    platform.model.options["client_tls_sslmode"] = "require"
    assert isinstance(unit.config_changed(), AskAgain)
    assert unit.pooler.consoles.plain == {0: [True], 1: []}
    hooks = 0
    while isinstance(unit.update_status(), AskAgain):
        hooks += 1
    assert unit.pooler.consoles.plain == {0: [], 1: []}
    assert hooks == PLAIN_HOOKS - 2
    assert unit.update_status().complete


def test_a_unit_looks_for_plain_sessions_until_every_console_answers():
    platform, _ = encrypted()
    unit = platform.leader
    option(platform, "require")
    unit.pooler.consoles.plain = {1: [False]}
    applied = unit.pooler.applied
    unit.pooler.applied = applied.model_copy(update={"plain": 1})
    unit.pooler.consoles.silent = True
    assert isinstance(unit.update_status(), AskAgain)
    unit.pooler.consoles.silent = False
    unit.update_status()
    assert unit.pooler.consoles.plain[1] == []
    assert unit.pooler.applied.plain == 0


def test_plain_sessions_stay_in_a_pgbouncer_that_cannot_end_them():
    platform = MemoryPlatform()
    for unit in platform.units.values():
        unit.pooler.release = Version(1, 23)
    platform.deploy()
    platform.backend()
    platform.leader.pooler.consoles.plain = {0: [True]}
    option(platform, "require")
    assert platform.leader.pooler.applied.plain == 0


def test_without_users_of_pgbouncer_plain_sessions_are_not_looked_for():
    platform = MemoryPlatform()
    platform.deploy()
    option(platform, "require")
    assert platform.leader.pooler.applied.plain == PLAIN_HOOKS
    assert platform.leader.read().auth is None


def test_a_unit_without_pair_and_relation_has_the_files_as_before():
    platform = related()
    platform.relate("shop-app", "shop")
    for unit in platform.units.values():
        assert unit.pooler.config.pem_files == ()
        assert not [name for name in settings_of(unit) if name.startswith("client_tls")]
        assert network_rules(unit) == [("local",), ("local", "host")]
        assert not unit.read().serving.tls


def first_pairs(platform):
    give(platform, *platform.units.values())


def renewed(platform):
    give(platform, *platform.units.values(), turn=2)


def other_authority(platform):
    give(platform, *platform.units.values(), root=OTHER, turn=2)


def disabled(platform):
    platform.model.options["client_tls_sslmode"] = "disable"


def required(platform):
    platform.model.options["client_tls_sslmode"] = "require"
    platform.leader.pooler.consoles.plain = {0: [False, True], 1: [True]}


def update(unit):
    return unit.update_status()


def served(platform):
    """Return whether clients can verify every running unit by what they were told."""
    (client,) = platform.model.clients.values()
    if not client.told.tls:
        return True
    configs = [unit.pooler.config for unit in platform.units.values() if unit.pooler.running]
    return all(
        config.client_files and config.serving.authorities[0] in client.told.tls_ca
        for config in configs
    )


def end(platform):
    """Return all that a change of TLS leaves behind."""
    model = platform.model
    return {
        "plan": model.plan,
        "ledger": model.ledger,
        "told": [client.told for client in model.clients.values()],
        "served": [served_keys(unit) for unit in platform.units.values()],
        "applied": [unit.pooler.applied for unit in platform.units.values()],
        "plain": [unit.pooler.consoles.plain for unit in platform.units.values()],
    }


@pytest.mark.parametrize(
    "change", [first_pairs, renewed, other_authority, disabled, required], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("name", ["pgbouncer/0", "pgbouncer/1"])
def test_a_change_of_tls_killed_at_any_point_ends_the_same(change, name):
    if change is first_pairs:
        origin = related()
        origin.relate("shop-app", "shop")
    else:
        origin, _ = encrypted()
    change(origin)
    undisturbed = twin(origin)
    effects = killed_after(undisturbed, name, update)
    run(undisturbed)
    expected = end(undisturbed)
    states = States()
    for last in range(effects + 1):
        platform = twin(origin)
        assert killed_after(platform, name, update, last) is None
        if not states.are_new(platform):
            continue
        assert served(platform), last
        for unit in (platform.units[name], *platform.units.values()):
            unit.update_status()
            assert served(platform), last
        run(platform)
        assert (last, end(platform)) == (last, expected)
