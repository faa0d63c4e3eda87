"""What an operator is shown of a unit: `show` and `report`."""

import pytest
from in_memory import deployed
from operated import rows, session, three_units
from pydantic import SecretStr

from domain.problems import Level, Problem
from domain.users import Login


@pytest.fixture
def platform():
    return three_units()


def test_what_runs_is_shown_and_differences_are_named(platform):
    leader = platform.leader
    shown = leader.show()
    assert shown["drift"] == "none"
    assert "pgbouncer/2" in shown["units"]
    leader.pooler.consoles.paused[0] = {"shop"}
    instances = leader.pooler.config.instances
    other = tuple(
        (name, "9" if name == "default_pool_size" else value)
        for name, value in instances[1].settings
    )
    changed = instances[1].model_copy(update={"settings": other, "pools": instances[1].pools[:-1]})
    leader.pooler.config = leader.pooler.config.with_instances([instances[0], changed])
    shown = leader.show()["drift"].splitlines()
    assert "process 0: database shop is paused, and is not to be" in shown
    assert any("default_pool_size = " in line for line in shown)
    assert "process 1: shop = … in [databases]" in shown
    leader.pooler.consoles.silent = True
    assert "its console does not answer" in leader.show()["drift"]
    assert "does not answer" in leader.show()["pools"]


def test_a_report_has_no_secret(platform):
    auth = platform.model.auth.model_copy(
        update={
            "clients": (Login(username="relation_id_9", password=SecretStr("by certificate")),),
            "next_auth": Login(username="next", password=SecretStr("following")),
            "former_auth": Login(username="former", password=SecretStr("earlier")),
            "former_admin_password": SecretStr("of the console"),
        }
    )
    platform.model.auth = auth
    backend = platform.leader.read().backend.credentials
    secrets = [auth.admin_password, auth.stats_password, auth.auth_password, backend.password]
    known = [secret.get_secret_value() for secret in secrets]
    known += ["by certificate", "following", "earlier", "of the console"]
    platform.leader.pooler.consoles.sessions[0] = [
        session(number, application=secret) for number, secret in enumerate(known)
    ]
    found = str(platform.leader.report())
    assert not [secret for secret in known if secret in found]
    assert "pool_mode" in found


def test_the_end_of_a_long_section_has_no_part_of_a_secret(platform):
    password = platform.leader.read().auth.admin_password.get_secret_value()
    texts = ["x" * 99] * 119 + ["y" * 90 + password]
    for number, text in enumerate(texts):
        problem = Problem(topic=f"t{number}", level=Level.ACTIVE, text=text)
        platform.model.ledger = platform.model.ledger.with_problem(problem)
    problems = platform.leader.report()["problems"]
    assert problems.endswith("y…")


def test_a_unit_without_users_or_configuration_is_shown(platform):
    platform.model.auth = None
    assert "PgBouncer has no users yet" in platform.leader.show()["pools"]
    assert platform.leader.report()["status"]
    platform.model.plan = None
    platform.leader.pooler.lose_disk()
    shown = platform.leader.report()
    assert shown["operations"] == "there is no configuration yet"
    assert shown["drift"] == "none"


def test_processes_that_are_missing_or_too_many_are_named(platform):
    leader = platform.leader
    record = leader.read().container.applied
    first, second = record.instances
    leader.pooler.remember(record.model_copy(update={"instances": (first,)}))
    assert "process 1 is decided, and does not run" in leader.show()["drift"]
    extra = second.model_copy(update={"index": 9, "limit": 1})
    leader.pooler.remember(record.model_copy(update={"instances": (first, second, extra)}))
    assert "process 9 runs, and is not decided" in leader.show()["drift"]
    moved = second.model_copy(update={"port": 7000})
    leader.pooler.remember(record.model_copy(update={"instances": (first, moved)}))
    assert "its console does not answer" in leader.show()["drift"]


def test_a_pool_and_a_port_that_are_not_decided_are_named(platform):
    leader = platform.leader
    record, config = leader.read().container.applied, leader.pooler.config
    (first, second), (one, two) = record.instances, config.instances
    other = two.pools[-1].model_copy(update={"alias": "other"})
    two = two.model_copy(update={"pools": (*two.pools, other), "port": 7000})
    leader.pooler.config = config.with_instances([one, two])
    moved = second.model_copy(update={"port": 7000})
    leader.pooler.remember(record.model_copy(update={"instances": (first, moved)}))
    shown = leader.show()["drift"].splitlines()
    assert "process 1: database other is pooled, and is not decided" in shown
    assert "process 1: port 6432 is decided, 7000 is open" in shown


def test_a_pause_that_is_not_in_force_is_named(platform):
    leader = platform.leader
    leader.pause()
    leader.pooler.consoles.paused[1] = set()
    assert "process 1: all databases is to be paused, and is not" in leader.show()["drift"]


def test_what_is_shown_does_not_grow_with_the_clients(platform):
    clients = [
        session(number, user=f"user-{number}", address="10.0.0.1:" + "9" * 90, since=number)
        for number in range(10_000)
    ]
    platform.leader.pooler.consoles.sessions = {0: clients, 1: clients}
    shown = platform.leader.show()
    assert "20000 clients" in shown["clients"]
    assert "more" in shown["clients"]
    assert sum(map(len, shown.values())) < 50_000
    assert sum(map(len, platform.leader.report().values())) < 90_000


def test_what_each_console_answers_is_a_row(platform):
    platform.leader.pooler.consoles.busy = {0: 1, 1: 2}
    shown = platform.leader.show()
    assert rows(shown["pools"])[1:] == [
        "1  shop  relation_id_1  session  2  0  2  0  0.0",
        "0  shop  relation_id_1  session  1  0  1  0  0.0",
    ]
    assert rows(shown["servers"])[1:] == [
        "0  shop  relation_id_1  active  10.1.0.1:5432  1",
        "1  shop  relation_id_1  active  10.1.0.1:5432  2",
    ]
    assert rows(shown["stats"])[1:] == [
        f"{process}  {database}  0  0  0  0  0  0"
        for process in (0, 1)
        for database in ("pgbouncer_auth", "blog", "shop")
    ]


def test_why_a_process_does_not_answer_is_shown(platform):
    platform.leader.pooler.hung = {1}
    assert platform.leader.show()["stats"].splitlines()[-1] == (
        "process 1 does not answer: PgBouncer process 1 does not answer"
    )
    platform.model.auth = None
    assert platform.leader.show()["servers"].splitlines()[1:] == [
        "process 0 does not answer: PgBouncer has no users yet",
        "process 1 does not answer: PgBouncer has no users yet",
    ]


def test_a_report_has_the_configuration_that_the_plan_decides(platform):
    lines = platform.leader.report()["configuration"].splitlines()
    assert lines[:3] == ["process 0:", "  listen_addr = *", "  listen_port = 6432"]
    assert lines[-3:] == [
        "process 1:", "  unix_socket_dir = /var/lib/pgbouncer/1", "  peer_id = 2",
    ]  # fmt: skip


def test_a_unit_without_postgresql_has_a_report():
    report = deployed(units=1).leader.report()
    assert report["versions"] == "PgBouncer 1.26.1, PostgreSQL unknown"
    assert report["grants"] == "user  database  roles"


def test_a_unit_that_has_not_asked_pgbouncer_shows_no_difference(platform):
    platform.leader.pooler.lose_disk()
    assert platform.leader.show()["drift"] == "none"
