"""The relation `tracing`: what is requested, and where traces go afterwards."""

import dataclasses
import json
import pathlib

import pytest
from ops import testing
from signing import Signer, receives

ROOT, OTHER = (Signer(f"root {number}").root for number in range(2))
HTTP = {"protocol": {"name": "otlp_http", "type": "http"}, "url": "http://tempo:4318"}
HTTPS = HTTP | {"url": "https://tempo:4318/"}
GRPC = {"protocol": {"name": "otlp_grpc", "type": "grpc"}, "url": "tempo:4317"}
NUMBER = 9


def told(*receivers):
    return {"receivers": json.dumps(receivers)}


def tells(juju, fields, *, created=False):
    """Relate Tempo, or change what it wrote, and run the hooks."""
    relation = testing.Relation(
        "tracing", id=NUMBER, remote_app_name="tempo", remote_units_data={0: {}}
    )
    if not created:
        relation = juju.relation(NUMBER)
    juju.with_relation(dataclasses.replace(relation, remote_app_data=fields))
    if created:
        juju.emit(juju.context.on.relation_created(juju.relation(NUMBER)))
    juju.changed(NUMBER)


def kept(juju):
    """Return where traces go, as the unit keeps it; None if it keeps nothing."""
    file = pathlib.Path(juju.context.charm_root, ".traces.json")
    return json.loads(file.read_text()) if file.exists() else None


def to(url, authorities=""):
    return {"url": url, "authorities": authorities}


def test_only_the_leader_requests_otlp_over_http(related):
    tells(related, {}, created=True)
    assert related.relation(NUMBER).local_app_data == {"receivers": '["otlp_http"]'}
    assert kept(related) == to("")
    related.without(NUMBER)
    related.change(leader=False)
    tells(related, told(HTTP), created=True)
    assert related.relation(NUMBER).local_app_data == {}
    assert kept(related) == to("http://tempo:4318/v1/traces")


def test_a_new_leader_requests_what_the_former_leader_did_not(related):
    related.change(leader=False)
    tells(related, {}, created=True)
    related.emit(related.context.on.leader_elected(), leader=True)
    assert related.relation(NUMBER).local_app_data == {"receivers": '["otlp_http"]'}


def test_traces_go_where_the_relation_tells_last(related):
    tells(related, told(GRPC, HTTP), created=True)
    assert kept(related) == to("http://tempo:4318/v1/traces")
    tells(related, told(HTTP | {"url": "http://[fd00::1]:80/base"}))
    assert kept(related) == to("http://[fd00::1]:80/base/v1/traces")
    assert related.status == "active"


def test_without_the_relation_no_destination_is_kept(related):
    tells(related, told(HTTP), created=True)
    buffer = pathlib.Path(related.context.charm_root, ".tracing-data.db")
    buffer.write_text("traces that are not sent")
    related.ends(NUMBER)
    assert kept(related) is None
    assert not buffer.exists()


@pytest.mark.parametrize("event", ["start", "upgrade_charm"])
def test_a_new_pod_learns_the_destination_by_its_first_hooks(related, event):
    tells(related, told(HTTP), created=True)
    pathlib.Path(related.context.charm_root, ".traces.json").unlink()
    related.emit(getattr(related.context.on, event)())
    assert kept(related) == to("http://tempo:4318/v1/traces")
    related.without(NUMBER)
    related.emit(getattr(related.context.on, event)())
    assert kept(related) is None


def test_a_destination_that_cannot_be_read_is_written_again(related):
    tells(related, told(HTTP), created=True)
    file = pathlib.Path(related.context.charm_root, ".traces.json")
    for text in ("", "[]", '{"url": 7}', "\0"):
        file.write_text(text)
        related.emit(related.context.on.config_changed(), config={"max_db_connections": 10})
        assert related.status == "active"
        tells(related, told(HTTP))
        assert kept(related) == to("http://tempo:4318/v1/traces")


def test_https_is_verified_by_the_authorities_of_receive_ca_certs(related):
    tells(related, told(HTTPS), created=True)
    assert kept(related) == to("https://tempo:4318/v1/traces")
    receives(related, {"certificates": json.dumps([ROOT])})
    assert kept(related) == to("https://tempo:4318/v1/traces", ROOT)
    receives(related, {"certificates": json.dumps([OTHER])}, number=8)
    assert kept(related)["authorities"] == f"{ROOT}\n{OTHER}"
    related.ends(7)
    assert kept(related)["authorities"] == OTHER
    tells(related, told(HTTP))
    assert kept(related) == to("http://tempo:4318/v1/traces")


def test_authorities_without_the_relation_tracing_are_not_kept(related):
    receives(related, {"certificates": json.dumps([ROOT])})
    assert kept(related) is None


@pytest.mark.parametrize(
    ("receivers", "reason"),
    [
        ("no JSON", "receivers is not in JSON"),
        ("[" * 60_000, "receivers is not in JSON"),
        ("7" * 70_000, "receivers is longer than 65536 characters"),
        ("7", "receivers has no URL for otlp_http"),
        ('["otlp_http", {"protocol": 7, "url": 7}]', "receivers has no URL for otlp_http"),
        (json.dumps([GRPC]), "receivers has no URL for otlp_http"),
        (json.dumps([HTTP | {"url": "file:///etc/passwd"}]), "does not begin with http://"),
        (json.dumps([HTTP | {"url": "http://"}]), "does not begin with http://"),
        (json.dumps([HTTP | {"url": "http://a\nb"}]), "not printable"),
        (json.dumps([HTTP | {"url": "http://" + "a" * 2000}]), "longer than 2000 characters"),
        (json.dumps([HTTP | {"url": "http://tempo:port"}]), "Port could not be cast"),
        (json.dumps([HTTP | {"url": "http://user:word@tempo"}]), "has a user"),
        (json.dumps([HTTP | {"url": "http://tempo?a=b"}]), "a query"),
    ],
)
def test_what_is_no_address_is_a_line_in_the_log(related, receivers, reason):
    tells(related, told(HTTP), created=True)
    tells(related, {"receivers": receivers})
    assert kept(related) == to("")
    assert related.status == "active"
    lines = [line.message for line in related.context.juju_log if "tempo" in line.message]
    assert len(lines) == 1
    assert reason in lines[0]


def test_a_destination_on_a_full_disk_does_not_fail_the_hook(related):
    # A directory stands in the way of the new file.
    pathlib.Path(related.context.charm_root, ".traces.json.new").mkdir()
    tells(related, told(HTTP), created=True)
    assert kept(related) is None
    assert related.status == "active"


def test_hooks_of_the_relation_leave_other_hooks_quiet(related):
    record = pathlib.Path(related.context.charm_root, ".unchanged")
    related.emit(related.context.on.update_status())
    before = record.read_text()
    tells(related, told(HTTP), created=True)
    related.ends(NUMBER)
    related.emit(related.context.on.update_status())
    assert record.read_text() == before
