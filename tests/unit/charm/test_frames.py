"""Five calls lie between an event and a port: handler, hook, Converge, intent, port."""

import collections
import pathlib
import sys
import typing

import pytest
from on_juju import V0, Juju

from app.ports import Ports

SRC = str(pathlib.Path(__file__).parents[3] / "src")

# The methods of each port. A new password is a plain function.
METHODS = {
    port: {name for name in vars(role) if not name.startswith("_")}
    for port, role in typing.get_type_hints(Ports).items()
    if isinstance(role, type) and role.__module__ == "app.ports"
}


def _port_of(frame):
    """Return the port whose method was just called, and the method; None if the call is to none."""
    code = frame.f_code
    adapter = type(frame.f_locals.get("self"))
    if not code.co_filename.startswith(f"{SRC}/adapters/"):
        return None
    for port, methods in METHODS.items():
        if code.co_name in methods and all(hasattr(adapter, name) for name in methods):
            return port, code.co_name
    return None


def _calls_to(frame):
    """Return the calls of our own code that led from the handler of an event to this call."""
    calls = []
    while frame:
        code = frame.f_code
        # In Python 3.11 a comprehension has a frame of its own.
        if code.co_filename.startswith(SRC) and not code.co_name.startswith("<"):
            calls.append((code.co_filename.removeprefix(f"{SRC}/"), code.co_qualname))
            if calls[-1][0] == "charm.py":
                return tuple(reversed(calls))
        frame = frame.f_back
    return ()


def _live(juju):
    """Run every kind of hook, in a life from the deployment to the end of all relations."""
    on = juju.context.on
    juju.deploy().backend()
    shop = juju.client("shop-app", V0 | {"database": "shop"})
    juju.client("prometheus", {}, endpoint="metrics-endpoint")
    for options in ({}, {"pool_mode": "transaction"}, {"max_db_connections": 10}):
        juju.emit(on.config_changed(), config=options)
        juju.emit(on.update_status())
    juju.ends(shop)
    juju.ends("backend-database")


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """Return the walks to each method of a port in a life of the charm."""
    found = collections.defaultdict(set)

    def profile(frame, event, _):
        if event == "call" and (called := _port_of(frame)):
            calls = _calls_to(frame)
            # An adapter may call another adapter.
            if calls and not calls[-2][0].startswith("adapters/"):
                found[called].add(calls)

    juju = Juju(tmp_path_factory.mktemp("frames"), others=(1,))
    sys.setprofile(profile)
    try:
        _live(juju)
    finally:
        sys.setprofile(None)
    return found


def test_config_changed_reaches_the_databag_of_the_plan_in_five_calls(walks):
    # docs/architecture.md follows this walk.
    assert (
        ("charm.py", "PgBouncerCharm._on_config_changed"),
        ("app/hooks/config_changed.py", "ConfigChanged.__call__"),
        ("app/converge.py", "Converge.__call__"),
        ("app/intents/share_configuration.py", "ShareConfiguration.__call__"),
        ("adapters/juju/peers.py", "JujuPeers.share"),
    ) in walks["peers", "share"]


@pytest.mark.parametrize(
    ("port", "method"),
    [
        ("facts", "read"),
        *(("pooler", method) for method in ("program", "apply", "remember")),
        *(("peers", method) for method in ("share", "name_leader", "announce")),
        ("backend", "request"),
        ("secrets", "store"),
    ],
)
def test_every_event_reaches_a_port_of_the_unit_in_five_calls(walks, port, method):
    longest = max(walks[port, method], key=len)
    assert len(longest) <= 5, longest


def test_an_event_reaches_every_port_through_five_files_at_most(walks):
    assert {port for port, _ in walks} >= METHODS.keys() - {
        "departures",
        "reminder",
        "exposure",
        "rollout",
        "replaced",
        "certificates",
    }
    files = {
        called: max(len(dict.fromkeys(file for file, _ in calls)) for calls in some)
        for called, some in walks.items()
    }
    assert {called: count for called, count in files.items() if count > 5} == {}
