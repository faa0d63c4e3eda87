"""Whole records of what was applied: each field of a record, and each change of a record."""

import pydantic
import pytest
from samples import but

from domain.applied import AppliedProcess, AppliedState, Step, applied_state, in_transition, steps
from domain.capabilities import PgBouncerRuntime, Version
from domain.certificate_logins import TrustedLogin
from domain.hba import Rule
from domain.instances import ConsoleUser, Instance, PoolerConfig
from domain.plan import Serving
from domain.process import UNLIMITED
from domain.rotation import EndedLogin
from domain.value import digest

OLD = PgBouncerRuntime(version=Version(1, 23), files=7, cpus=2)
NEW = PgBouncerRuntime(version=Version(1, 24), files=9, cpus=3)
ENDED = (EndedLogin(user="relation_id_3", at=8.5),)
ANN, BOB, EVE = (
    TrustedLogin(username=name, name=f"of-{name}", since=since)
    for name, since in (("ann", 1.5), ("bob", 2.5), ("eve", 3.5))
)


def process(index, **what):
    known = {"port": 6000 + index, "restart": "r", "reload": "l", "limit": 4, "readers": True}
    return AppliedProcess(index=index, **(known | what))


def record(*processes, **what):
    """Return a record in which no field has its default."""
    known = {
        "program": OLD, "ending": (process(5),), "users": "u", "serving": Serving(port=7000),
        "server": "one", "tls_only": True, "plain": 3, "trusted": (ANN, BOB),
        "lets_next_go": True, "starts_paused": True, "paused": ("blog", "shop"), "reconnects": 11,
        "kills": 12, "killed": 13, "ended_logins": ENDED,
    }  # fmt: skip
    return AppliedState(instances=processes or (process(0), process(1)), **(known | what))


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (lambda known: known.pausing(("b", "", "a")), {"paused": ("", "a", "b")}),
        (lambda known: known.reconnected(21), {"reconnects": 21}),
        (lambda known: known.killing(22, 23), {"kills": 22, "killed": 23}),
        (lambda known: known.disconnecting(()), {"ended_logins": ()}),
        (lambda known: known.ending_plain(2), {"plain": 2}),
        (lambda known: known.ending_plain(0), {"plain": 0}),
        (lambda known: known.without_ended(frozenset({5})), {}),
        (lambda known: known.without_ended(frozenset({6})), {"ending": ()}),
        (
            lambda known: known.holding({0: 9, 1: 4}),
            {"instances": (process(0, held=9), process(1))},
        ),
    ],
)
def test_a_record_changes_in_what_was_done_alone(change, fields):
    assert change(record()) == but(record(), **fields)


def test_a_unit_lets_the_next_unit_go_and_keeps_its_record():
    waiting = record(lets_next_go=False)
    assert waiting.letting_next_go() == record()


def test_the_last_hook_for_sessions_without_tls_lasts_until_none_is_left():
    assert record(plain=1).ending_plain(4) == record(plain=1)
    assert record(plain=1).ending_plain(0) == record(plain=0)


@pytest.mark.parametrize(
    ("numbers", "common", "lost"),
    [((2, 5), 2, {4: 5, 5: 0, 6: 0}), ((1,), 1, {0: 1, 1: 0}), ((0, 0), 0, {0: 0})],
)
def test_a_restart_after_that_of_the_plan_was_lost(numbers, common, lost):
    known = record(*(process(place, restarts=number) for place, number in enumerate(numbers)))
    assert known.restarts == common
    assert {number: known.lost_restart(number) for number in lost} == lost


def test_a_record_without_processes_has_no_restart():
    known = but(record(), instances=())
    assert (known.restarts, known.lost_restart(0)) == (0, 0)


def test_the_processes_of_a_record_are_those_that_run_and_those_that_end():
    above = process(1, limit=2, held=3)
    known = record(process(0), above, process(2, limit=3, held=3))
    assert known.above_limit == (above,)
    assert known.running == (process(0), above, process(2, limit=3, held=3), process(5))


# ---- the record of a configuration ------------------------------------------------------------
FIRST = Instance(
    index=0, port=6432, limit=3, readers=True, restarts=2, pools=(),
    settings=(("listen_addr", "*"), ("pool_mode", "session"), ("peer_id", "1")),
)  # fmt: skip
SECOND = Instance(index=1, port=6433, limit=7, settings=(("so_reuseport", "1"),), pools=())
RULE = Rule(origins=("local",), database="pgbouncer", users=("stats",), admits=True)
CONFIG = PoolerConfig(
    instances=(FIRST, SECOND),
    users=(
        ConsoleUser(name="stats", secret=pydantic.SecretStr("s1")),
        ConsoleUser(name="admin", secret=pydantic.SecretStr("s2")),
    ),
    rules=(RULE, Rule(md5=True)),
    serving=Serving(port=6432, databases=("shop",)),
    server="two",
    tls_only=True,
    trusted=(BOB, EVE),
    paused=("shop", "news"),
    reconnects=31,
    kills=32,
)
FIRST_RECORD = AppliedState(
    program=NEW,
    instances=(
        AppliedProcess(
            index=0, port=6432, limit=3, readers=True, restarts=2,
            restart=digest([("listen_addr", "*"), ("peer_id", "1"), ("restarts", 2)]),
            reload=digest(FIRST.model_dump(mode="json")),
        ),
        AppliedProcess(
            index=1, port=6433, limit=7,
            restart=digest([("so_reuseport", "1")]),
            reload=digest({
                "index": 1, "port": 6433, "limit": 7, "readers": False, "pools": [], "users": [],
                "settings": [["so_reuseport", "1"]], "peers": [],
            }),
        ),
    ),
    users=digest([
        ("stats", "s1"),
        ("admin", "s2"),
        {
            "origins": ["local"], "database": "pgbouncer", "users": ["stats"],
            "replication": False, "admits": True,
        },
        {
            "origins": ["local", "host"], "database": "", "users": [], "replication": False,
            "admits": False, "md5": True,
        },
    ]),
    serving=Serving(port=6432, databases=("shop",)),
    server="two",
    tls_only=True,
    trusted=(BOB, EVE),
    starts_paused=True,
    paused=("news", "shop"),
    reconnects=31,
    kills=32,
)  # fmt: skip


def test_the_first_record_of_a_unit_has_each_field_of_its_configuration():
    assert applied_state(CONFIG, NEW) == FIRST_RECORD


def test_a_later_record_keeps_what_was_done_before():
    before = record(process(0), process(3), process(4), ending=(process(1), process(5)))
    assert applied_state(CONFIG, NEW, before, frozenset({0, 3, 8})) == but(
        FIRST_RECORD,
        instances=(but(FIRST_RECORD.instances[0], held=4), FIRST_RECORD.instances[1]),
        ending=(process(5), process(3)),
        plain=3,
        lets_next_go=True,
        paused=("blog", "news", "shop"),
        reconnects=11,
        kills=12,
        killed=13,
        ended_logins=ENDED,
    )


def test_a_process_that_did_not_run_before_has_no_connections_from_before():
    before = record(process(0, held=9))
    (first, _) = applied_state(CONFIG, NEW, before).instances
    assert first == FIRST_RECORD.instances[0]


def test_a_record_without_pauses_starts_no_process_paused():
    before = record(paused=("blog",), lets_next_go=False)
    found = applied_state(but(CONFIG, paused=()), NEW, before)
    assert (found.starts_paused, found.paused, found.lets_next_go) == (False, ("blog",), False)


@pytest.mark.parametrize(
    ("tls_only", "program", "before", "plain"),
    [
        (True, NEW, {"tls_only": False, "plain": 5}, 10),
        (True, NEW, {"tls_only": True, "plain": 5}, 5),
        (False, NEW, {"tls_only": False, "plain": 5}, 0),
        (True, OLD, {"tls_only": False, "plain": 5}, 0),
    ],
)
def test_sessions_without_tls_have_ten_hooks_from_when_tls_is_required(
    tls_only, program, before, plain
):
    config = but(CONFIG, tls_only=tls_only)
    assert applied_state(config, program, record(**before)).plain == plain
    assert applied_state(config, program).plain == 0


# ---- the record while a configuration replaces another ----------------------------------------
def test_between_two_configurations_a_record_keeps_what_both_share():
    before = record(process(0, restarts=4, readers=False), process(2, held=6))
    after = record(
        process(0, restarts=3, limit=2, restart="other"), process(1),
        program=NEW, ending=(process(7),), users="v", serving=Serving(port=8000), server="two",
        tls_only=False, plain=9, trusted=(BOB, EVE), lets_next_go=False, starts_paused=False,
        paused=("news",), reconnects=1, kills=2, killed=3, ended_logins=(),
    )  # fmt: skip
    assert in_transition(before, after) == record(
        process(0, restarts=3, restart="", reload="", readers=False, held=4),
        process(1, reload="", held=4),
        process(2, reload="", held=6),
        program=NEW, ending=(process(7),), users="", paused=("news",), trusted=(BOB,),
    )  # fmt: skip


def test_before_the_first_configuration_no_certificate_is_trusted():
    after = record(process(0, limit=0))
    assert in_transition(None, after) == record(
        process(0, limit=0, reload="", held=UNLIMITED), users="", trusted=()
    )


def test_each_process_takes_a_step_from_one_record_to_the_next():
    before = record(process(0), process(1), process(2), process(3), process(9))
    after = record(
        process(3), process(4), process(2, reload="m"), process(1, restart="s"), process(0)
    )
    order = (("start", 4), ("reload", 2), ("restart", 1), ("start", 0), ("stop", 8), ("stop", 9))
    assert steps(before, after, frozenset({1, 2, 3, 8, 9})) == tuple(
        Step(action=action, index=index) for action, index in order
    )


def test_a_process_that_no_record_has_is_restarted():
    assert steps(None, record(process(0), process(1)), frozenset({1})) == (
        Step(action="start", index=0),
        Step(action="restart", index=1),
    )
