"""Endpoints without a relation: a hook does not ask Juju for them, and no new relation is missed."""

import contextlib
import errno
import pathlib
from unittest import mock

import pytest
from crash_core import Killed
from ops import testing
from quiet_hooks import looked
from scenario.mocking import _MockModelBackend

from adapters.juju import unrelated
from adapters.juju.skip_unchanged import SkipUnchanged
from adapters.juju.unrelated import UnrelatedEndpoints


def killed(*_):
    raise Killed


def file_of(juju):
    return pathlib.Path(juju.context.charm_root, ".unrelated")


@contextlib.contextmanager
def asked():
    """Collect the endpoints whose relations are asked for, of a Juju that lists one endpoint a call."""
    endpoints, relation_ids = [], _MockModelBackend.relation_ids

    def noted(self, relation_name):
        endpoints.append(relation_name)
        return relation_ids(self, relation_name)

    with mock.patch.object(_MockModelBackend, "relation_ids", noted):
        yield endpoints


@pytest.mark.parametrize("leader", [True, False])
def test_a_hook_with_something_to_do_asks_only_for_relations_that_may_exist(quiet, leader):
    quiet.emit(quiet.context.on.config_changed(), leader=leader)
    with asked() as endpoints:
        quiet.emit(quiet.context.on.config_changed(), config={"max_db_connections": 40})
    related = {relation.endpoint for relation in quiet.state.relations}
    assert set(endpoints) <= related
    assert len(endpoints) == len(set(endpoints))


def relate(juju, endpoint):
    """Relate an application at an endpoint, before any hook; return the event that announces the relation."""
    relation = testing.Relation(endpoint, id=5, remote_app_name="other", remote_units_data={0: {}})
    juju.change(relations={*juju.state.relations, relation})
    return juju.context.on.relation_created(juju.relation(5))


def requested(juju):
    """Return whether the unit has requested a certificate."""
    return "certificate_signing_requests" in juju.relation("certificates").local_unit_data


@pytest.mark.parametrize("content", [b"", b"5", b"[[]]", b'{"certificates": 1}', b"[1", b"\xff"])
def test_a_file_with_nonsense_hides_no_relation(quiet, content):
    file_of(quiet).write_bytes(content)
    quiet.emit(relate(quiet, "certificates"))
    assert requested(quiet)


@pytest.mark.parametrize("event", ["start", "upgrade_charm"])
def test_a_pod_that_starts_asks_for_each_endpoint(quiet, event):
    relate(quiet, "certificates")
    quiet.emit(getattr(quiet.context.on, event)())
    assert requested(quiet)


@pytest.mark.parametrize("event", ["start", "upgrade_charm"])
def test_a_killed_first_hook_of_a_pod_leaves_no_record(quiet, monkeypatch, event):
    relate(quiet, "certificates")
    with monkeypatch.context() as patch:
        patch.setattr(SkipUnchanged, "forget", killed)
        with pytest.raises(Killed):
            quiet.emit(getattr(quiet.context.on, event)())
    quiet.emit(quiet.context.on.config_changed(), config={"max_db_connections": 40})
    assert requested(quiet)


def test_a_relation_that_juju_resumes_begins_with_relation_changed(quiet):
    relate(quiet, "certificates")
    quiet.emit(quiet.context.on.relation_changed(quiet.relation(5), remote_unit=0))
    assert requested(quiet)


def test_a_record_from_before_a_loss_of_power_hides_no_relation(quiet, monkeypatch, tmp_path):
    relate(quiet, "certificates")
    boot = tmp_path / "boot_id"
    boot.write_text("another boot")
    monkeypatch.setattr(unrelated, "BOOT", boot)
    quiet.emit(quiet.context.on.config_changed(), config={"max_db_connections": 40})
    assert requested(quiet)


def test_a_record_that_a_hook_of_the_endpoint_could_not_read_is_removed(quiet, monkeypatch):
    def refused(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(unrelated.pathlib.Path, "read_text", refused)
        patch.setenv("JUJU_RELATION", "certificates")
        UnrelatedEndpoints(file_of(quiet).parent)
    assert "certificates" not in UnrelatedEndpoints(file_of(quiet).parent)


def test_a_full_disk_hides_no_relation(quiet, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    event = relate(quiet, "certificates")
    with monkeypatch.context() as patch:
        patch.setattr(unrelated.os, "replace", full)
        patch.setenv("JUJU_RELATION", "certificates")
        assert "certificates" not in UnrelatedEndpoints(file_of(quiet).parent)
    assert "certificates" not in UnrelatedEndpoints(file_of(quiet).parent)
    quiet.emit(event)
    assert requested(quiet)


def test_a_relation_whose_first_hook_was_killed_is_not_missed(quiet, monkeypatch):
    assert "certificates" in file_of(quiet).read_text()
    event = relate(quiet, "certificates")
    with monkeypatch.context() as patch:
        patch.setattr(SkipUnchanged, "holds", killed)
        with pytest.raises(Killed):
            quiet.emit(event)
    # An operator may let Juju go on without the hook that failed.
    quiet.emit(quiet.context.on.config_changed(), config={"max_db_connections": 40})
    assert requested(quiet)


def test_a_relation_whose_first_hook_was_skipped_is_not_missed(quiet):
    """Only the leader tells observers, and any unit may lead later."""
    quiet.emit(quiet.context.on.update_status(), leader=False)
    assert "sloth" in file_of(quiet).read_text()
    event = relate(quiet, "sloth")
    assert not looked(quiet, event)
    with asked() as endpoints:
        quiet.emit(quiet.context.on.leader_elected(), leader=True)
    assert "sloth" in endpoints
