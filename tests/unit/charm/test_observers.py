"""The relations with observers: what Prometheus, Grafana, Loki and Sloth read, and what they answer."""

import base64
import dataclasses
import json
import lzma

import pytest
import yaml
from on_juju import APP, V0

from adapters.juju.names import OBSERVERS

UNIT = "10.0.0.0"
LOKI = "http://loki-0.loki-endpoints.cos.svc.cluster.local:3100/loki/api/v1/push"
TOPOLOGY = {"juju_model": "dev", "juju_application": APP, "juju_charm": APP}


def observe(juju, endpoint, app=(), unit=()):
    """Relate an observer that has written these fields, and return the number of the relation."""
    return juju.client(endpoint, app, endpoint=endpoint, unit_asks=unit)


def url(text):
    """Return what a unit of Loki writes."""
    return {"endpoint": json.dumps({"url": text})}


def answers(juju, number, **event):
    """Let an observer write its answer, and run the hook."""
    relation = juju.relation(number)
    remote = {"event": json.dumps(event)} if event else {}
    juju.with_relation(dataclasses.replace(relation, remote_app_data=remote))
    juju.changed(number)


def targets(juju):
    """Return the targets of log lines in the plan of Pebble."""
    return juju.container.plan.to_dict().get("log-targets", {})


def databags(juju):
    """Return every databag of this application and unit in relations with observers."""
    return {
        relation.id: (relation.local_app_data, relation.local_unit_data)
        for relation in juju.state.relations
        if relation.endpoint in OBSERVERS
    }


@pytest.fixture
def observed(related):
    """Return the leader with an observer at each endpoint, and nothing left to do."""
    for endpoint in OBSERVERS:
        observe(related, endpoint, unit=url(LOKI) if endpoint == "logging" else ())
    return related


def test_prometheus_reads_a_job_for_each_process(related):
    bag = related.relation(observe(related, "metrics-endpoint")).local_app_data
    meta, jobs = json.loads(bag["scrape_metadata"]), json.loads(bag["scrape_jobs"])
    uuid = related.state.model.uuid
    assert meta == {
        "model": "dev",
        "model_uuid": uuid,
        "application": APP,
        "unit": f"{APP}/0",
        "charm_name": APP,
    }
    assert [(job["job_name"], job["static_configs"]) for job in jobs] == [
        (
            f"pgbouncer-{index}",
            [{"targets": [f"*:{9127 + index}"], "labels": {"process": str(index)}}],
        )
        for index in range(2)
    ]


def test_each_unit_tells_prometheus_its_address(related):
    related.change(leader=False)
    relation = related.relation(observe(related, "metrics-endpoint"))
    host = f"{APP}-0.{APP}-endpoints.dev.svc.cluster.local"
    assert {key: text for key, text in relation.local_unit_data.items() if "scrape" in key} == {
        "prometheus_scrape_unit_address": UNIT,
        "prometheus_scrape_unit_name": f"{APP}/0",
        "prometheus_scrape_unit_fqdn": host,
    }
    assert relation.local_app_data == {}


def test_units_with_different_processors_have_the_targets_of_their_processes(make):
    juju = make(others=(1,)).deploy().backend()
    serving = '{"port":6432,"databases":[],"processors":4}'
    juju.peer_writes(1, address="fd00::1", serving=serving)
    bag = juju.relation(observe(juju, "metrics-endpoint")).local_app_data
    found = {job["job_name"]: job["static_configs"][0] for job in json.loads(bag["scrape_jobs"])}
    assert found["pgbouncer-1"]["targets"] == ["*:9128"]
    assert found["pgbouncer-3-1"] == {
        "targets": ["[fd00::1]:9130"],
        "labels": {"process": "3", "juju_unit": f"{APP}/1"},
    }
    assert set(found) == {"pgbouncer-0", "pgbouncer-1", "pgbouncer-2-1", "pgbouncer-3-1"}


def test_a_change_of_the_port_adds_the_processes_of_the_other_set(related):
    number = observe(related, "metrics-endpoint")
    related.client("shop-app", {"database": "shop", **V0})
    related.options(listen_port=7000)
    jobs = json.loads(related.relation(number).local_app_data["scrape_jobs"])
    known = {job["job_name"] for job in jobs}
    plan = related.plan()
    assert plan["lane"] == 1
    assert {"pgbouncer-16", "pgbouncer-17"} <= known


def rules(juju, endpoint):
    """Return the rules by their names, and the names of their groups."""
    text = juju.relation(endpoint).local_app_data["alert_rules"]
    groups = json.loads(text)["groups"]
    found = {
        rule.get("alert") or rule["record"]: rule for group in groups for rule in group["rules"]
    }
    return found, [group["name"] for group in groups]


@pytest.mark.parametrize(
    ("endpoint", "some"),
    [
        ("metrics-endpoint", {"PgBouncerDown", "HostDown", "HostMetricsMissing"}),
        ("logging", {"PgBouncerUnsupportedParameter"}),
    ],
)
def test_each_rule_has_the_topology_in_its_labels_and_its_group(observed, endpoint, some):
    found, groups = rules(observed, endpoint)
    uuid = observed.state.model.uuid
    topology = TOPOLOGY | {"juju_model_uuid": uuid}
    assert found.keys() >= some
    assert all(rule["labels"].items() >= topology.items() for rule in found.values())
    prefix = f"dev_{uuid[:8]}_{APP}_".replace("-", "_")
    assert all(name.startswith(prefix) and name.endswith("_rules") for name in groups)
    assert len(set(groups)) == len(groups)


def test_an_option_changes_the_thresholds_of_rules_in_one_hook(observed):
    before, _ = rules(observed, "metrics-endpoint")
    observed.options(query_wait_timeout=7)
    after, _ = rules(observed, "metrics-endpoint")
    assert before != after
    observed.options(query_wait_timeout=0)
    assert rules(observed, "metrics-endpoint")[0].keys() < before.keys()


def test_grafana_reads_the_dashboard_with_a_name_that_stays(observed):
    told = json.loads(observed.relation("grafana-dashboard").local_app_data["dashboards"])
    ((name, template),) = told["templates"].items()
    content = json.loads(lzma.decompress(base64.b64decode(template["content"])))
    assert name == "file:pgbouncer.json"
    assert content["title"] == "PgBouncer"
    assert content["uid"] == template["dashboard_alt_uid"]
    assert len(bytes.fromhex(content["uid"])) == 20
    assert template["inject_dropdowns"] is True
    assert template["charm"] == APP
    assert {variable["name"] for variable in content["templating"]["list"]} >= {"prometheusds"}


def test_sloth_reads_an_objective_for_this_application_alone(observed):
    observed.options(**{"slo-wait-target": "99"})
    (spec,) = yaml.safe_load(observed.relation("sloth").local_app_data["slos"])
    (slo,) = spec["slos"]
    assert spec["version"] == "prometheus/v1"
    assert slo["objective"] == 99.0
    for query in slo["sli"]["events"].values():
        assert query.count(f'juju_application="{APP}"') == query.count("__name__")
    observed.options(**{"slo-wait-target": "0"})
    assert "slos" not in observed.relation("sloth").local_app_data


def test_a_second_hook_writes_nothing(observed):
    before = databags(observed)
    for event in (
        observed.context.on.start(),
        observed.context.on.config_changed(),
        observed.context.on.leader_elected(),
        observed.context.on.update_status(),
    ):
        observed.emit(event)
        assert databags(observed) == before, event.path


def test_a_follower_writes_only_its_own_databag(make):
    juju = make(others=(1,)).deploy().backend()
    juju.change(leader=False)
    for endpoint in OBSERVERS:
        observe(juju, endpoint, unit=url(LOKI) if endpoint == "logging" else ())
    assert [app for app, _ in databags(juju).values()] == [{}] * len(OBSERVERS)
    assert set(targets(juju)) == {"logging/0"}


def test_the_next_leader_tells_what_the_leader_before_could_not(make):
    juju = make(others=(1,)).deploy().backend()
    juju.change(leader=False)
    number = observe(juju, "metrics-endpoint")
    juju.emit(juju.context.on.leader_elected(), leader=True)
    assert "scrape_jobs" in juju.relation(number).local_app_data


def test_a_databag_that_lost_its_text_is_written_by_the_next_verification(observed):
    number = observed.relation("metrics-endpoint").id
    before = databags(observed)
    relation = observed.relation(number)
    observed.with_relation(dataclasses.replace(relation, local_app_data={}))
    observed.emit(observed.context.on.upgrade_charm())
    assert databags(observed) == before


def test_a_new_relation_is_told_although_nothing_has_changed(related):
    first, second = (observe(related, "metrics-endpoint") for _ in range(2))
    bags = databags(related)
    assert bags[first] == bags[second]
    assert "scrape_jobs" in bags[second][0]


def test_log_lines_go_to_each_loki_unit_with_seven_labels(related):
    number = observe(related, "logging", unit=url(LOKI))
    uuid = related.state.model.uuid
    assert targets(related) == {
        "logging/0": {
            "override": "replace",
            "type": "loki",
            "location": LOKI,
            "services": ["all"],
            "labels": {
                "product": "Juju",
                "charm": APP,
                "juju_model": "dev",
                "juju_model_uuid": uuid,
                "juju_application": APP,
                "juju_unit": f"{APP}/0",
                "job": f"juju_dev_{uuid[:8]}_{APP}",
            },
        }
    }
    moved = dataclasses.replace(
        related.relation(number), remote_units_data={0: url("https://10.0.0.9"), 1: url(LOKI)}
    )
    related.with_relation(moved)
    related.changed(number)
    assert {name: target["location"] for name, target in targets(related).items()} == {
        "logging/0": "https://10.0.0.9",
        "logging/1": LOKI,
    }


def test_log_lines_stop_when_a_loki_unit_or_the_relation_goes(related):
    number = observe(related, "logging", unit=url(LOKI))
    related.with_relation(
        dataclasses.replace(related.relation(number), remote_units_data={1: url(LOKI)})
    )
    related.departs("logging/0", number)
    services = {name: target["services"] for name, target in targets(related).items()}
    assert services == {"logging/0": ["-all"], "logging/1": ["all"]}
    related.ends(number)
    assert {tuple(target["services"]) for target in targets(related).values()} == {("-all",)}
    assert {target.get("labels") for target in targets(related).values()} == {None}


def test_a_lost_end_of_the_relation_does_not_keep_the_log_target(related):
    number = observe(related, "logging", unit=url(LOKI))
    related.without(number)
    related.emit(related.context.on.start())
    assert targets(related)["logging/0"]["services"] == ["-all"]


def test_a_unit_that_is_removed_still_sends_its_log_lines(make):
    juju = make(others=(1,)).deploy().backend()
    observe(juju, "logging", unit=url(LOKI))
    juju.is_removed()
    for hooks in juju.removal().values():
        for hook in hooks:
            juju.last_hook(hook)
    assert targets(juju)["logging/0"]["services"] == ["all"]


def test_a_container_that_was_replaced_sends_its_log_lines_again(related):
    observe(related, "logging", unit=url(LOKI))
    related.change(containers={related.workload.renewed(related.container)})
    related.record.unlink()
    assert targets(related) == {}
    related.emit(related.context.on.pebble_ready(related.container))
    assert targets(related)["logging/0"]["location"] == LOKI


def test_a_refused_rule_or_scrape_job_is_a_note_until_it_is_accepted(related):
    number = observe(related, "metrics-endpoint")
    before = related.status
    answers(related, number, valid=False, errors="group 'x':\n 1:5: unknown function")
    assert related.status.startswith("active ")
    assert related.status.endswith(
        "metrics-endpoint: metrics-endpoint refuses rules or dashboards:"
        " group 'x': 1:5: unknown function"
    )
    answers(related, number, scrape_job_errors=["bad job"])
    assert related.status.endswith(
        'metrics-endpoint: metrics-endpoint refuses scrape jobs: ["bad job"]'
    )
    answers(related, number, valid=True, errors="")
    assert related.status == before
    answers(related, number, valid=False)
    assert "it gives no reason" in related.status
    answers(related, number)
    assert related.status == before


@pytest.mark.parametrize("unit", [url("http://user:the-password@loki"), {"endpoint": "[" * 9000}])
def test_an_address_of_loki_that_is_not_used_is_a_note(related, unit):
    observe(related, "logging", unit=unit)
    assert related.status.startswith("active logging: what logging/0 wrote is not used: its ")
    assert "the-password" not in related.status
    assert targets(related) == {}


def test_a_follower_shows_no_answer_of_an_observer(related):
    related.change(leader=False)
    number = observe(related, "grafana-dashboard")
    answers(related, number, valid=False, errors=[{"dashboard_id": "x", "error": "no panels"}])
    assert related.status == "active"


def test_no_secret_is_in_a_databag_of_an_observer_or_a_log_target(observed):
    related = observed
    related.client("shop-app", {"database": "shop", **V0})
    secrets = [
        text
        for secret in related.state.secrets
        for text in (secret.latest_content or secret.tracked_content).values()
        if len(text) > 8
    ]
    assert secrets
    texts = json.dumps([list(databags(related).values()), targets(related)])
    assert [secret for secret in secrets if secret in texts] == []
