"""Whatever is eight times as long takes about eight times as long to read, and not sixty-four times.

Processor time, the least of several runs, and a generous bound: other programs run on this machine, too.
"""

import contextlib
import json
import time
from types import SimpleNamespace

import ops
import pytest
from hostile.test_local import LIVED, kept
from hostile.test_platform import LEFT, observed, service

from adapters.connections.messages import last_line, one_line
from adapters.juju import databags
from adapters.pebble.pooler import PebblePooler
from app.errors import PoolerFailed
from domain.capabilities import version_in
from domain.endpoints import endpoints_in
from domain.overrides import overrides_in
from domain.plan import Plan
from domain.settings import settings_from
from pooler.address import given_credentials
from pooler.arguments import UsageError
from pooler.store import State

MEMORY = json.dumps(LEFT)


def looked(services=(), summaries=(), memory=MEMORY):
    changes = [
        SimpleNamespace(kind="stop", tasks=[SimpleNamespace(summary=one) for one in summaries])
    ]
    there = observed(services=list(map(service, services)), memory=memory, changes=changes)
    return PebblePooler(there).read()


def program(text):
    return PebblePooler(observed(printed=(text, text))).program()


def client(told="", **asks):
    return databags.asked(1, "shop-app", asks, {"requests": told})


def shared(text):
    return databags.read_peer_value({"plan": text}, "plan", Plan)


def complaint(text):
    error = ops.pebble.ChangeError(text, SimpleNamespace(tasks=[]))
    return PebblePooler(observed(printed=(error, ""))).program()


STATE = kept(LIVED)
ASKED = json.dumps({"request-id": "a", "resource": "shop", "extra-user-roles": "createdb"})

# The parser, the beginning of what it reads, what is repeated in it, and its end.
READ = {
    "endpoints": (endpoints_in, "", "a.b:1,", ""),
    "an address that does not end": (endpoints_in, "[", ":", ""),
    "a host of many labels": (endpoints_in, "", "a.", "!"),
    "a host of many dashes": (endpoints_in, "", "a-", "!"),
    "a version": (version_in, "", "1.1.1.1", ""),
    "a version of many digits": (version_in, "", "1", "."),
    "roles": (lambda text: client(database="x", **{"extra-user-roles": text}), "", "a,", ""),
    "a database": (lambda text: client(database=text), "", "x", "*"),
    "requests": (lambda text: client(version="v1", requests=text), "[", ASKED + ",", "0]"),
    "what a client was told": (
        lambda text: client(told=text, version="v1", requests=f"[{ASKED}]"), "[0", f",{ASKED}", "]",
    ),
    "a plan": (shared, '{"databases": ["x"', ',"x"', "]}"),
    "brackets": (shared, "", "[", ""),
    "overrides": (overrides_in, '{"users": {"a": {}', ', "b": {}', "}}"),
    "overrides in brackets": (overrides_in, "", "[", ""),
    "an option": (lambda text: settings_from({"pool_mode": text, text: text}), "", "x", ""),
    "services": (lambda text: looked(services=text.split()), "", "pgbouncer-1 ", ""),
    "tasks": (lambda text: looked(summaries=[text]), "", 'Stop service "pgbouncer-16"', ""),
    "quotes": (lambda text: looked(summaries=[text]), "", '"pgbouncer-', ""),
    "limits": (program, "1.24\n", "1 ", ""),
    "digits": (program, "1.24\n", "1", ""),
    "complaints": (complaint, "", " [1] ERROR no\n", ""),
    "a complaint that does not end": (complaint, "", " [1", ""),
    "a memory": (lambda text: looked(memory=text), MEMORY[:-1] + ', "x": [0', ",0", "]}"),
    "a state": (State.model_validate_json, json.dumps(STATE)[:-1] + ', "x": [0', ",0", "]}"),
    "a server's address": (
        lambda text: given_credentials(text, {"PGPASSWORD": "p"}), "postgresql://u@h", ",h", "",
    ),
    "lines": (last_line, "", "a\n", ""),
    "empty lines": (last_line, "", "\n", ""),
    "one line": (one_line, "", "\u202e ", ""),
}  # fmt: skip


def seconds(read, text):
    """The least processor time that it takes to read this, or to refuse it."""

    def once():
        begin = time.process_time()
        with contextlib.suppress(ValueError, PoolerFailed, UsageError):
            read(text)
        return time.process_time() - begin

    return min(once() for _ in range(4))


@pytest.mark.parametrize("what", READ)
def test_time_grows_as_the_text_does(what):
    read, begin, part, end = READ[what]
    once, more = (seconds(read, begin + part * count + end) for count in (4_000, 32_000))
    assert more < 24 * once + 0.005
