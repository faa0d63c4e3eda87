"""Databags, files, logs, statuses and tracebacks that other programs can read contain no secret."""

import logging
import pathlib
import traceback

import pytest
from on_juju import APP, BACKEND_PASSWORD, V0

from adapters.postgres.databases import PsycopgDatabases
from app.errors import DatabaseRefused, DatabaseUnreachable
from domain import facts as domain_facts
from domain.endpoints import endpoints_in


def secrets_of(juju):
    """Return every password, and every text that contains a password for its reader."""
    found = {BACKEND_PASSWORD}
    for secret in juju.state.secrets:
        content = secret.latest_content or secret.tracked_content
        found |= {text for key, text in content.items() if "password" in key or key == "uris"}
    return found


def lived(make):
    """Run most kinds of hooks; return the unit, with its log lines and statuses as text."""
    juju = make(others=(1,))
    said = []
    honest = juju.context.run

    def run(event, state):
        out = honest(event, state)
        said.extend(f"{line.level} {line.message}" for line in juju.context.juju_log)
        said.append(out.unit_status.message)
        said.append(str(out.app_status.message))
        return out

    juju.context.run = run
    juju.deploy().backend()
    shop = juju.client("shop-app", {"database": "shop", **V0})
    juju.client("bad-app", {"database": "it's"})
    juju.options(listen_port=7000)
    juju.server.refuses_passwords = "PostgreSQL says no"
    juju.client("blog-app", {"database": "blog", **V0})
    juju.server.refuses_passwords = ""
    juju.server.down = "PostgreSQL does not answer"
    juju.emit(juju.context.on.update_status())
    juju.server.down = ""
    juju.emit(juju.context.on.update_status())
    juju.emit(juju.context.on.leader_elected())
    return juju, shop, "\n".join(said)


def test_no_secret_is_in_a_databag_a_status_a_log_or_the_plan(make):
    juju, shop, said = lived(make)
    places = {
        "the log and statuses": said,
        "databags": repr(
            [
                (relation.local_app_data, relation.local_unit_data)
                for relation in juju.state.relations
            ]
        ),
        "the Pebble plan": str(juju.container.plan),
        "the quiet memory": pathlib.Path(juju.context.charm_root, ".unchanged").read_text(),
        "applied.json": juju.record.read_text(),
        "pgbouncer.ini": juju.ini(),
        "deferred events": repr(juju.state.deferred) + repr(juju.state.stored_states),
    }
    assert juju.told(shop)["password"] in secrets_of(juju)
    for place, text in places.items():
        leaked = [secret for secret in secrets_of(juju) if secret in text]
        assert not leaked, place


def test_the_search_finds_a_password_in_a_databag(related):
    """A client that takes no secrets gets its password in the databag, where the search finds it."""
    shop = related.client("old-app", {"database": "shop"})
    assert related.told(shop)["password"] in repr(related.relation(shop).local_app_data)


def test_the_container_keeps_one_password_that_can_be_read(make):
    juju, *_ = lived(make)
    userlist = (juju.disk / "userlist.txt").read_text()
    auth = juju.secret(f"pgb-peers.{APP}.app")
    readable = [key for key, text in auth.items() if key.endswith("password") and text in userlist]
    assert readable == ["auth-password"]
    for file in juju.disk.rglob("*"):
        assert file.stat().st_mode & 0o077 == 0, file


@pytest.mark.parametrize("endpoint", ["127.0.0.1:1", "host.invalid:5432"])
def test_no_traceback_shows_the_backends_password(endpoint, caplog):
    caplog.set_level(logging.DEBUG)
    backend = domain_facts.BackendLogin(
        user="u", password=BACKEND_PASSWORD, database="pgbouncer", endpoints=endpoints_in(endpoint)
    )
    with (
        pytest.raises((DatabaseUnreachable, DatabaseRefused)) as caught,
        PsycopgDatabases("owner").open(backend) as database,
    ):
        database.users()
    shown = "".join(traceback.format_exception(caught.value)) + str(caught.value) + caplog.text
    assert BACKEND_PASSWORD not in shown
    assert BACKEND_PASSWORD not in repr(backend) + str(backend)


def test_a_hook_that_fails_shows_no_secret_in_its_traceback(make):
    """An unexpected error ends in Juju's log as a traceback."""
    juju, *_ = lived(make)
    juju.kubernetes.error = RuntimeError("an unexpected error")
    with pytest.raises(Exception, match="an unexpected error") as caught:
        juju.emit(juju.context.on.upgrade_charm())
    shown = "".join(traceback.format_exception(caught.value))
    assert "an unexpected error" in shown
    assert not [secret for secret in secrets_of(juju) if secret in shown]
