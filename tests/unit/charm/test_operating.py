"""The actions that operate a running application, under Scenario."""

import dataclasses
import json

import pytest
from on_juju import ACTIONS, SHOP
from ops import testing

from domain.operations import ALL, ClientSession
from domain.plan import Plan


@pytest.fixture
def juju(related):
    related.client("shop-app", SHOP)
    return related


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Let actions not sleep."""
    monkeypatch.setattr("adapters.juju.operate_actions._LOOK_SECONDS", 0.01)
    # Juju checks the types of parameters, and these tests pass what another caller could pass.
    monkeypatch.setenv("SCENARIO_SKIP_CONSISTENCY_CHECKS", "1")


def run(juju, name, **parameters):
    """Run an action with the defaults that Juju adds, and return its results."""
    known = ACTIONS[name].get("params", {})
    defaults = {key: known[key]["default"] for key in known if "default" in known[key]}
    given = {key.replace("_", "-"): value for key, value in parameters.items()}
    juju.emit(juju.context.on.action(name, params=defaults | given))
    return juju.context.action_results


def plan(juju):
    relation = juju.relation("pgb-peers")
    return Plan.model_validate_json(relation.local_app_data["plan"], extra="ignore")


def test_a_pause_is_in_the_plan_and_in_the_status(juju):
    results = run(juju, "pause")
    assert results["paused"] == "all databases"
    assert results["this-unit"] == "no transaction runs"
    assert results["undo"] == "juju run pgbouncer-k8s/leader resume"
    assert plan(juju).paused_databases == (ALL,)
    assert "all databases paused since" in juju.status
    assert "`juju run pgbouncer-k8s/leader resume`" in juju.status
    assert (juju.workload.disk / "paused").read_text() == "paused\n"
    assert run(juju, "resume")["paused"] == "nothing"
    assert "paused" not in juju.status
    assert (juju.workload.disk / "paused").read_text() == ""


@pytest.mark.parametrize("first", ["start", "pebble_ready"])
def test_a_unit_that_joins_during_a_pause_reports_it_in_its_first_hook(juju, first):
    run(juju, "pause")
    relation = dataclasses.replace(juju.relation("pgb-peers"), local_unit_data={})
    juju.with_relation(relation)
    juju.change(leader=False)
    juju.renewed()
    container = (juju.container,) if first == "pebble_ready" else ()
    juju.emit(getattr(juju.context.on, first)(*container))
    assert (juju.workload.disk / "paused").read_text() == "paused\n"
    assert json.loads(juju.mine["operations"])["paused"] == [ALL]
    assert "all databases paused since" in juju.status


def test_a_database_that_is_disabled_is_in_the_rules_and_in_the_status(juju):
    assert run(juju, "disable", database="shop")["disabled"] == "shop"
    assert '"shop" all 0.0.0.0/0 reject' in (juju.workload.disk / "hba.conf").read_text()
    assert "clients cannot log in to database shop" in juju.status
    assert run(juju, "enable", database="shop")["disabled"] == "none"
    assert '"shop" all' not in (juju.workload.disk / "hba.conf").read_text()


def test_a_file_of_a_pause_is_written_only_for_a_pause(juju):
    assert not (juju.workload.disk / "paused").exists()


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("pause", {"database": "nonsense"}, "there is no database 'nonsense': there are shop"),
        ("pause", {"timeout": 0}, "parameter timeout is a whole number from 1 to 240, not 0"),
        ("pause", {"timeout": "soon"}, "parameter timeout is a whole number from 1 to 240"),
        ("pause", {"timeout": True}, "parameter timeout is a whole number from 1 to 240"),
        ("pause", {"database": ["shop"]}, "parameter database is a text, not ['shop']"),
        ("pause", {"database": "a\nb"}, "parameter database is a name of at most 63 letters"),
        ("pause", {"database": ""}, "parameter database is empty: give a name, or leave database"),
        ("kill-clients", {"user": "", "oldest": 1}, "parameter user is empty: give a name"),
        ("kill-clients", {"oldest": 0}, "parameter oldest is a whole number from 1 to"),
        ("pause", {"databse": "shop"}, "there is no parameter 'databse': the action has database"),
        ("restart", {"unit": 0}, "there is no parameter 'unit': the action has none"),
        ("disable", {}, "parameter database is missing: add `database=…`"),
        ("kill-clients", {}, "say which clients: database=…, user=…"),
        ("kill-clients", {"idle-seconds": -1}, "parameter idle-seconds is a whole number from 1"),
    ],
)
def test_wrong_parameters_are_answered_by_a_sentence(juju, name, given, sentence):
    before = plan(juju)
    with pytest.raises(testing.ActionFailed) as failed:
        run(juju, name, **given)
    assert failed.value.message.startswith(sentence)
    assert plan(juju) == before


def test_a_follower_names_the_command(make):
    juju = make(leader=False)
    with pytest.raises(testing.ActionFailed, match="run `juju run pgbouncer-k8s/leader pause"):
        run(juju, "pause")


def test_numbers_that_juju_passes_as_other_types_are_read(juju):
    assert run(juju, "kill-clients", database="shop", oldest="3")["disconnected-here"] == 0
    assert run(juju, "kill-clients", user=2024, oldest=3.0)["disconnected-here"] == 0


def test_the_results_stay_under_the_limit_of_juju_with_10_000_clients(juju, monkeypatch):
    clients = tuple(
        ClientSession(
            number=number, user=f"relation_id_{number}", alias="shop", address="10.0.0.1:50000",
            state="active", application="ü" * 64, since=number,
        )
        for number in range(10_000)
    )  # fmt: skip
    # With `--pebble=real` the consoles are real, too.
    for console in ("memory.pooler.MemoryConsole", "pgbouncer.console.PsycopgConsole"):
        monkeypatch.setattr(f"adapters.{console}.sessions", lambda _: clients)
    for name in ("show", "report"):
        results = run(juju, name)
        assert "20000 clients" in results["clients"]
        assert len(json.dumps(results, ensure_ascii=False).encode()) < 100_000


def test_a_report_has_no_secret(juju):
    results = str(run(juju, "report"))
    secrets = [text for secret in juju.state.secrets for text in secret.latest_content.values()]
    passwords = [text for text in secrets if len(text) > 15 and not text.startswith("pgbouncer")]
    assert passwords
    assert not [text for text in passwords if text in results]
