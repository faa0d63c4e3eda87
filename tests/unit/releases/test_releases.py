"""What units of another release wrote is read with the meaning that it had there."""

import json
import pathlib

import pytest
from ops import hookcmds

from adapters.juju import databags
from adapters.juju.secrets import JujuSecrets
from domain.applied import AppliedState
from domain.budget import UnitBudget
from domain.endpoints import Endpoint
from domain.ledger import Ledger
from domain.plan import Plan, Serving
from domain.problems import Level
from pooler.store import State, Store

HERE = pathlib.Path(__file__).parent
RELEASES = sorted(item.name for item in HERE.iterdir() if item.name[0].isdigit())
MODELS = {
    "plan": Plan, "ledger": Ledger, "serving": Serving, "stake": UnitBudget,
    "applied": AppliedState, "state": State,
}  # fmt: skip


def text(release, name):
    return (HERE / release / f"{name}.json").read_text()


def recorded(name, release="0.1.0"):
    found = databags.read_peer_value({name: text(release, name)}, name, MODELS[name])
    assert found is not None
    return found


def later(value):
    """The value as a later release might write it: with another key in every object."""
    if isinstance(value, dict):
        return {key: later(item) for key, item in value.items()} | {"from-later": [{"a": 1}]}
    return [later(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def secrets_with(monkeypatch):
    """Return a function that returns the secrets of an application that has stored a content."""

    def with_content(content):
        monkeypatch.setattr(hookcmds, "secret_get", lambda **_: content)
        return _secrets_with(content)

    return with_content


def _secrets_with(content):
    class Secret:
        def get_content(self, refresh):
            return content

        def peek_content(self):
            return content

        def set_content(self, changed):
            content.update(changed)

        id = "secret:id"

    class Model:
        def get_secret(self, label):
            return Secret()

    class Charm:
        model, app = Model(), None

    class State:
        def incomparable(self):
            """Nothing is compared in these tests."""

    return JujuSecrets(Charm(), State(), "label")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", MODELS)
def test_what_a_release_wrote_is_read_in_full(release, name):
    value = json.loads(text(release, name))
    found = recorded(name, release).model_dump(mode="json")

    def part(read, wrote, path):
        if isinstance(wrote, dict):
            for key, item in wrote.items():
                assert key in read, (*path, key)
                part(read[key], item, (*path, key))
        elif isinstance(wrote, list):
            assert len(read) == len(wrote), path
            for number, item in enumerate(wrote):
                part(read[number], item, (*path, number))
        elif read != "**********":
            assert read == wrote, path

    part(found, value, ())


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", MODELS)
def test_keys_that_only_a_later_release_knows_are_ignored(release, name):
    raw = json.loads(text(release, name))
    if name == "state":
        # These are data: options by name, units by name, relations by number.
        added = raw | {"from-later": 1, "server": later(raw["server"])}
        added["model"] = {**raw["model"], "from-later": 1, "plan": later(raw["model"]["plan"])}
    else:
        added = later(raw)
    found = databags.read_peer_value({name: json.dumps(added)}, name, MODELS[name])
    assert found == recorded(name, release)


def test_a_plan_of_release_0_1_0():
    plan = recorded("plan")
    assert plan.ports == (7000, 6432)
    assert plan.process_set == 1
    assert (plan.settings.pool_mode, plan.settings.max_db_connections) == ("transaction", 60)
    assert plan.settings.query_wait_timeout == 30
    assert plan.settings.overrides.of_database("shop").pool_size == 6
    assert plan.settings.overrides.of_user("relation_id_12").max_connections == 9
    assert [(item.name, item.address, item.processors, item.share) for item in plan.members] == [
        ("pgbouncer-k8s/0", "10.0.0.0", 2, 20),
        ("pgbouncer-k8s/1", "10.0.0.1", 0, 33),
        ("pgbouncer-k8s/2", "10.0.0.2", 0, 33),
    ]
    assert plan.upstream.endpoints == (Endpoint(host="10.1.0.1", port=5432),)
    assert [item.host for item in plan.upstream.read_only] == ["10.1.0.2", "10.1.0.3"]
    assert plan.upstream.auth_user == "pgbouncer_auth_relation_id_7"
    assert plan.upstream.auth_schema == "pgbouncer"
    assert (plan.databases, plan.any_database) == (("blog", "reports"), True)


def test_a_ledger_of_release_0_1_0():
    ledger = recorded("ledger")
    assert ledger.provisioned_for == "relation_id_7"
    blog, reports = ledger.grants
    assert (blog.relation_id, blog.username, blog.database, blog.roles) == (
        12, "relation_id_12", "blog", ("charmed_dml",),
    )  # fmt: skip
    assert (reports.username, reports.roles) == ("relation_id_13", ("admin", "createdb"))
    assert ledger.exposed_ports == (7000, 6432)
    (problem,) = ledger.problems
    assert (problem.topic, problem.level) == ("client:relation_id_11", Level.WAITING)


def test_what_a_unit_of_release_0_1_0_says_of_itself():
    serving, stake = recorded("serving"), recorded("stake")
    assert serving.serves("blog", 7000)
    assert not serving.serves("blog", 6432)
    assert serving.processors == 2
    assert (stake.share, stake.held) == (20, 20)


def test_the_secret_of_release_0_1_0(secrets_with):
    content = json.loads(text("0.1.0", "secret"))
    secrets = secrets_with(content)
    auth = secrets.read()
    assert not secrets.unreadable
    assert auth.auth_user == "pgbouncer_auth_relation_id_7"
    assert auth.admin_password.get_secret_value() == content["admin-password"]
    before = dict(content)
    secrets.store(auth)
    assert content == before


def test_a_secret_keeps_what_a_later_release_added(secrets_with):
    content = json.loads(text("0.1.0", "secret")) | {"ca-key": "of a later release"}
    secrets = secrets_with(content)
    auth = secrets.read()
    secrets.store(auth.model_copy(update={"stats_user": "another"}))
    assert (content["monitoring-user"], content["ca-key"]) == ("another", "of a later release")


def test_a_secret_with_something_missing_is_unreadable_and_none_is_not(secrets_with):
    content = json.loads(text("0.1.0", "secret"))
    del content["auth-user"]
    for held, unreadable in ((content, True), ({}, False)):
        secrets = secrets_with(held)
        assert secrets.read() is None
        assert secrets.unreadable is unreadable


def test_what_a_pod_of_release_0_1_0_runs_with():
    found = recorded("applied")
    assert [(item.index, item.port, item.limit) for item in found.instances] == [
        (16, 7000, 5), (17, 7000, 5), (0, 6432, 5), (1, 6432, 5),
    ]  # fmt: skip
    assert found.program.version == (1, 24, 1)
    assert found.serving == recorded("serving")


def test_the_local_state_of_release_0_1_0(tmp_path):
    (tmp_path / "state.json").write_text(text("0.1.0", "state"))
    state = Store(tmp_path).load()
    assert list(state.model.units) == ["pgbouncer/0", "pgbouncer/1"]
    assert not any(unit.dying or unit.leaving for unit in state.model.units.values())
    assert state.model.clients[1].told.database == "shop"
    assert state.server.password.get_secret_value() == "the-operators-password"


def test_a_level_of_a_later_release_is_read_as_blocked():
    raw = json.loads(text("0.1.0", "ledger"))
    raw["problems"][0]["level"] = "critical"
    (problem,) = databags.read_peer_value({"ledger": json.dumps(raw)}, "ledger", Ledger).problems
    assert problem.level is Level.BLOCKED
    raw["problems"][0]["level"] = ["critical"]
    assert (
        databags.read_peer_value({"ledger": json.dumps(raw)}, "ledger", Ledger).problems[0]
        == problem
    )


def test_a_pool_mode_of_a_later_release_makes_a_plan_unreadable():
    raw = json.loads(text("0.1.0", "plan"))
    raw["settings"]["pool_mode"] = "pipeline"
    assert databags.read_peer_value({"plan": json.dumps(raw)}, "plan", Plan) is None


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("plan", "settings"), ("plan", "members"), ("plan", "upstream"), ("plan", "databases"),
        ("ledger", "provisioned_for"), ("ledger", "grants"),
    ],
)  # fmt: skip
def test_a_text_without_what_every_release_writes_is_not_taken_for_empty(name, key):
    raw = json.loads(text("0.1.0", name))
    raw[f"{key}-of-a-later-release"] = raw.pop(key)
    assert databags.read_peer_value({name: json.dumps(raw)}, name, MODELS[name]) is None


# ---- a leader of an older release writes -----------------------------------------------------
@pytest.mark.parametrize("name", ["plan", "ledger"])
def test_a_leader_keeps_keys_that_only_a_later_release_knows(name):
    before = later(json.loads(text("0.1.0", name)))
    after = json.loads(databags.replacing(json.dumps(before), recorded(name)))
    # Endpoints and problems have no name of their own, by which they would be known again.
    for value in (before, after):
        value.pop("problems", None)
        for endpoints in ("endpoints", "read_only"):
            value.get("upstream", {}).pop(endpoints, None)
    assert _known_to(after, before) == before


def _known_to(value, recorded):
    """A value without the keys of this release that the recorded one does not have."""
    if isinstance(value, dict) and isinstance(recorded, dict):
        return {key: _known_to(value[key], recorded[key]) for key in value if key in recorded}
    if isinstance(value, list) and isinstance(recorded, list):
        return [_known_to(one, other) for one, other in zip(value, recorded, strict=True)]
    return value


def test_what_a_leader_drops_does_not_come_back_with_a_later_key():
    ledger = recorded("ledger")
    before = later(ledger.model_dump(mode="json"))
    left = ledger.model_copy(update={"grants": ledger.grants[1:], "problems": ()})
    after = json.loads(databags.replacing(json.dumps(before), left))
    assert [item["username"] for item in after["grants"]] == ["relation_id_13"]
    assert after["grants"][0]["from-later"] == [{"a": 1}]
    assert after["problems"] == []
    bare = recorded("plan").without_upstream()
    text_before = json.dumps(later(recorded("plan").model_dump(mode="json")))
    assert json.loads(databags.replacing(text_before, bare))["upstream"] is None


@pytest.mark.parametrize("before", ["", "[]", "7", "{", "[" * 100_000, '{"grants": [7, [], {}]}'])
def test_whatever_stood_there_the_new_value_is_written(before):
    ledger = recorded("ledger")
    after = databags.replacing(before, ledger)
    assert Ledger.model_validate_json(after) == ledger


def test_without_later_keys_the_text_is_that_of_the_value():
    for name in ("plan", "ledger"):
        found = recorded(name)
        assert databags.replacing(text("0.1.0", name), found) == found.model_dump_json()
