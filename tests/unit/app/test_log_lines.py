"""The log has a line for each change that matters, no line for a hook without a change, and no secret."""

import logging
import re

from adapters.memory import MemoryPlatform


def with_clients(units):
    """Return a platform that has logged all its life."""
    platform = MemoryPlatform(units=units)
    platform.deploy()
    platform.backend()
    platform.relate("shop-app", "shop")
    return platform


def test_a_first_life_is_told_in_a_line_for_each_change(caplog):
    caplog.set_level(logging.INFO)
    platform = with_clients(units=1)
    text = "\n".join(caplog.messages)
    assert "This unit leads now, at " in text
    assert "The plan for all units changes: " in text
    for number in platform.model.clients:
        assert f"(relation {number}) has user relation_id_{number} and database " in text
    assert re.search(r"PgBouncer: start process 0.*; databases: \d+, port: 6432", text)
    assert not re.search(r"password\d", text)


def test_a_hook_without_a_change_logs_nothing(caplog):
    platform = with_clients(units=2)
    caplog.set_level(logging.INFO)
    for unit in platform.units.values():
        unit.update_status()
    assert caplog.messages == []


def test_an_option_is_told_as_a_reload(caplog):
    platform = with_clients(units=1)
    caplog.set_level(logging.INFO)
    platform.model.options["default_pool_size"] = 7
    platform.leader.config_changed()
    assert "The plan for all units changes: settings" in caplog.messages
    assert any("reload process 0" in line for line in caplog.messages)
