"""Modules that hooks without news import."""

from unittest import mock

from quiet_hooks import loaded_by_an_update_status_of, looked, memory
from scenario.mocking import _MockModelBackend
from signing import Provider

HEAVY = {"psycopg", "lightkube", "jinja2", "httpx2", "cryptography"}
UNNEEDED = {"pydantic", "domain", "app", "wiring", "dependency_injector"}


def test_a_quiet_hook_loads_neither_models_nor_drivers(quiet):
    quiet_load = loaded_by_an_update_status_of(quiet)
    assert "ops" in quiet_load
    assert not quiet_load & (HEAVY | UNNEEDED)


def test_a_hook_that_looks_and_finds_nothing_loads_no_driver(quiet):
    memory(quiet).unlink()
    load = loaded_by_an_update_status_of(quiet)
    assert load >= UNNEEDED
    assert not load & HEAVY


def test_a9_no_hook_without_an_authority_loads_cryptography(quiet):
    memory(quiet).unlink()
    assert "cryptography" not in loaded_by_an_update_status_of(quiet)
    memory(quiet).unlink()
    read, tool = [], _MockModelBackend.secret_get

    def spied(self, *args, **kwargs):
        read.append(f"{args} {kwargs}")
        return tool(self, *args, **kwargs)

    with mock.patch.object(_MockModelBackend, "secret_get", spied):
        quiet.emit(quiet.context.on.update_status())
    assert read
    assert not [label for label in read if "certificates" in label]


def test_a9_a_hook_with_an_authority_and_no_news_loads_no_cryptography(quiet):
    Provider(quiet).issues()
    quiet.emit(quiet.context.on.update_status())
    assert not looked(quiet)
    memory(quiet).unlink()
    assert "cryptography" not in loaded_by_an_update_status_of(quiet)
