"""PostgreSQL is verified, on the platform in memory."""

import pytest
from in_memory import deployed, settings_of, worst

from app.outcome import AskAgain
from domain.capabilities import Version
from domain.problems import Level


def certificate(number):
    body = f"{number:04d}" * 4
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----"


OLD, NEW = certificate(1), certificate(2)
READERS = "10.1.0.2:5432,10.1.0.3:5432"
REPLICA = "PostgreSQL at 10.1.0.2:5432 is not verified: its certificate is refused"


def verified(readers=READERS, *, authority=OLD, **how):
    """Return a platform with an application, whose PostgreSQL has certificates of an authority."""
    platform = deployed()
    platform.server.authority = authority
    platform.backend(readers=readers, authorities=(OLD,), **how)
    platform.relate("shop", "shop")
    return platform


def trusted(platform):
    """Return the authorities by which each process of each unit verifies PostgreSQL, and the mode."""
    found = set()
    for unit in platform.units.values():
        (file,) = unit.pooler.config.pem_files
        for process in range(len(unit.pooler.config.instances)):
            lines = settings_of(unit, process)
            assert lines["server_tls_ca_file"] == file.path
            found.add((lines["server_tls_sslmode"], file.text.get_secret_value()))
    return found


def only(*authorities):
    return {("verify-full", "".join(f"{authority}\n" for authority in authorities))}


def test_every_process_verifies_postgresql():
    platform = verified()
    assert trusted(platform) == only(OLD)
    assert worst(platform.leader).level is Level.ACTIVE
    assert platform.model.clients[1].told


def test_a_quiet_hook_asks_no_server_for_its_certificate():
    platform = verified()
    platform.server.authority = NEW
    outcome = platform.leader.peers_changed()
    assert outcome.unchanged
    assert worst(platform.leader).level is Level.ACTIVE


def test_a_server_with_another_authority_is_not_used_and_is_named():
    platform = verified(authority=NEW)
    assert worst(platform.leader).level is Level.BLOCKED
    assert "its certificate is refused" in worst(platform.leader).text
    assert platform.model.auth is None
    assert not platform.server.roles
    platform.server.authority = OLD
    assert isinstance(platform.leader.backend_changed(), object)
    platform.settle()
    assert trusted(platform) == only(OLD)
    assert worst(platform.leader).level is Level.ACTIVE


@pytest.mark.parametrize("what", ["authorities", "misnamed"])
def test_a_replica_that_is_not_verified_is_named(what):
    platform = deployed()
    platform.server.authority = OLD
    wrong = {"authorities": {"10.1.0.2": NEW}, "misnamed": {"10.1.0.2"}}[what]
    setattr(platform.server, what, wrong)
    platform.backend(readers=READERS, authorities=(OLD,))
    assert worst(platform.leader).text.startswith(REPLICA)
    assert isinstance(platform.leader.peers_changed(), AskAgain)
    getattr(platform.server, what).clear()
    platform.leader.peers_changed()
    assert worst(platform.leader).level is Level.ACTIVE
    assert trusted(platform) == only(OLD)


def test_a_replica_without_tls_is_named():
    platform = deployed()
    platform.server.authority, platform.server.authorities = OLD, {"10.1.0.2": ""}
    platform.backend(readers=READERS, authorities=(OLD,))
    assert worst(platform.leader).text == (
        "PostgreSQL at 10.1.0.2:5432 is not verified: it offers no TLS"
    )


@pytest.mark.parametrize("order", [("10.1.0.2", "10.1.0.1"), ("10.1.0.1", "10.1.0.2")])
def test_old_and_new_authority_count_until_every_endpoint_has_the_new(order):
    platform = verified("10.1.0.2:5432")
    hosts = platform.server.authorities = dict.fromkeys(order, OLD)
    platform.backend(readers="10.1.0.2:5432", authorities=(NEW,))
    assert trusted(platform) == only(NEW, OLD)
    assert "is not verified" in worst(platform.leader).text
    for host in order:
        assert trusted(platform) == only(NEW, OLD)
        hosts[host] = NEW
        platform.leader.update_status()
        platform.settle()
    assert trusted(platform) == only(NEW)
    assert worst(platform.leader).level is Level.ACTIVE
    assert platform.model.clients[1].told


def test_a_silent_replica_keeps_the_authority_before():
    platform = verified("10.1.0.2:5432")
    platform.server.authority, platform.server.silent = NEW, {"10.1.0.2"}
    platform.backend(readers="10.1.0.2:5432", authorities=(NEW,))
    assert trusted(platform) == only(NEW, OLD)
    assert worst(platform.leader).level is Level.ACTIVE
    platform.server.silent = set()
    platform.leader.update_status()
    platform.settle()
    assert trusted(platform) == only(NEW)


def test_a_silent_replica_is_no_problem_otherwise():
    platform = deployed()
    platform.server.authority, platform.server.silent = OLD, {"10.1.0.2"}
    platform.backend(readers="10.1.0.2:5432", authorities=(OLD,))
    assert worst(platform.leader).level is Level.ACTIVE
    assert trusted(platform) == only(OLD)


def test_verification_ends_with_the_option():
    platform = verified()
    platform.model.options["backend_tls_sslmode"] = "prefer"
    platform.leader.config_changed()
    platform.settle()
    assert platform.model.ledger.verified == ""
    assert {unit.pooler.config.pem_files for unit in platform.units.values()} == {()}
    assert settings_of(platform.leader)["server_tls_sslmode"] == "prefer"


def test_with_require_verify_no_pool_leads_to_an_unverified_server():
    platform = deployed()
    platform.model.options["backend_tls_sslmode"] = "require-verify"
    platform.leader.config_changed()
    platform.backend()
    assert worst(platform.leader).text.startswith(
        "PostgreSQL must be verified, and PostgreSQL offers"
    )
    assert platform.server.asked == 0
    assert platform.leader.pooler.config.upstream is None
    platform.server.authority = OLD
    platform.backend(authorities=(OLD,))
    assert trusted(platform) == only(OLD)


def test_with_require_verify_the_roles_in_an_unverified_server_stay(caplog):
    platform = verified()
    platform.model.options["backend_tls_sslmode"] = "require-verify"
    platform.backend()
    assert trusted(platform) == only(OLD)
    platform.model.plan = platform.model.plan.without_upstream()
    asked = platform.server.asked
    unit = platform.leader
    platform.model.backend = platform.model.backend.without_servers()
    unit.backend_departed("postgresql/0")
    assert "backend_tls_sslmode is require-verify, and PostgreSQL cannot be" in caplog.text
    assert platform.server.asked == asked


def test_an_older_pgbouncer_notes_that_a_process_uses_a_single_replica():
    platform = deployed()
    for unit in platform.units.values():
        unit.pooler.release = Version(1, 24, 1)
        unit.pooler.lose_disk()
        unit.pebble_ready()
    platform.server.authority = OLD
    platform.backend(readers=READERS, authorities=(OLD,))
    assert "verifies a single host of a pool: each process uses one of 2" in (
        worst(platform.leader).text
    )
    platform.backend(readers="10.1.0.2:5432", authorities=(OLD,))
    assert "single host" not in worst(platform.leader).text
