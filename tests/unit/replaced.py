"""A unit of this charm that finds what Canonical's charm has stored, under Scenario."""

import dataclasses
import pathlib

import yaml
from on_juju import APP, Juju
from ops import testing

from adapters.memory.server import MemoryRole

DATA = pathlib.Path(__file__).parents[1] / "data"
PASSWORD = "cLIENTpASSWORDoFtHErEFER"
AUTH_USER = "pgbouncer_auth_relation_id_7"


def recorded(revision="562"):
    """Return the recorded values of a revision."""
    return yaml.safe_load((DATA / f"reference-{revision}" / "application.yaml").read_text())


def refreshed(
    folder,
    *,
    leader=False,
    others=(1, 2),
    revision="562",
    ours=(),
    tls=None,
    failing=(),
    **bags,
):
    """Return a unit whose pod was just refreshed from Canonical's charm; units in `ours` were refreshed already.

    `tls` is the content of the unit's secret, `failing` has requests that Kubernetes does not answer, and `bags`
    are further databags of `upgrade`.
    """
    juju, known = Juju(folder, leader=leader, others=others), recorded(revision)
    juju.kubernetes.failing = set(failing)
    known562 = recorded()
    here = known562["peer-unit"]
    peers = {
        number: {"address": f"10.0.0.{number}", "stake": "{}"} if number in ours else dict(here)
        for number in others
    }
    juju.with_relation(
        dataclasses.replace(
            juju.relation("pgb-peers"),
            local_app_data=dict(known["peer-application"]),
            local_unit_data=dict(here),
            peers_data=peers,
        )
    )
    upgrade = testing.PeerRelation(
        "upgrade",
        id=3,
        local_app_data=bags.get("upgrade_application", {}),
        local_unit_data=dict(known562["upgrade-unit"]),
        peers_data={number: {"state": "idle"} for number in others},
    )
    shop = testing.Relation(
        "database",
        id=11,
        remote_app_name="shop-app",
        remote_app_data={
            "database": "shop",
            "requested-secrets": '["username", "password", "tls", "tls-ca", "uris"]',
        },
        local_app_data=dict(known562["client"]),
        remote_units_data={0: {}},
    )
    owner = "app"
    secrets = {
        testing.Secret(known["application-secret"], label=f"pgb-peers.{APP}.app", owner=owner),
        testing.Secret(
            known562["client-secret"],
            id="secret:of-shop",
            label="database.11.user.secret",
            owner=owner,
        ),
        testing.Secret(
            known562["client-tls-secret"],
            id="secret:tls-of-shop",
            label="database.11.tls.secret",
            owner=owner,
        ),
    }
    if tls:
        secrets |= {testing.Secret(tls, label=f"pgb-peers.{APP}.unit", owner="unit")}
    juju.change(
        relations={*juju.state.relations, upgrade, shop},
        secrets={*juju.state.secrets, *secrets},
    )
    _in_postgresql(juju.server)
    juju.backend()
    return juju


def _in_postgresql(server):
    """Make what Canonical's charm made in PostgreSQL."""
    foreign = {"ours": False, "login": True}
    server.roles["relation_id_11"] = MemoryRole(password=PASSWORD, **foreign)
    server.roles[AUTH_USER] = MemoryRole(password="aUTHpASSWORDoFtHErEFEREN", **foreign)
    server.databases.add("shop")
    server.owners["shop"] = "relation_id_7"
    server.functions.add("pgbouncer")


def starts(juju):
    """Run the hooks of a pod that was refreshed."""
    on = juju.context.on
    juju.emit(on.upgrade_charm())
    juju.emit(on.config_changed())
    juju.emit(on.start())
    juju.emit(on.pebble_ready(juju.container))
    return juju


SERVING = '{"port":6432,"databases":["blog","shop"]}'


def all_refreshed(juju, auth_user="", serving=SERVING):
    """Let the other units have been refreshed, each looking passwords up by `auth_user`."""
    peers = juju.relation("pgb-peers")
    databags = {
        number: {
            "address": f"10.0.0.{number}",
            "stake": "{}",
            "serving": serving,
            "auth-user": auth_user,
        }
        for number in peers.peers_data
    }
    juju.with_relation(dataclasses.replace(peers, peers_data=databags))
    number = min(databags)
    changed = juju.context.on.relation_changed
    return juju.emit(changed(juju.relation("pgb-peers"), remote_unit=number))


def with_tls(folder, root, pair, **how):
    """Return a refreshed unit whose secret has a pair of Canonical's charm, and whose authority is related."""
    secret = {
        "key": pair.key.get_secret_value(),
        "cert": pair.chain[0],
        "chain": "\n".join([*pair.chain, root]),
        "cauth": root,
        "csr": "the request of Canonical's charm",
    }
    juju = refreshed(folder, tls=secret, **how)
    authority = testing.Relation(
        "certificates",
        id=4,
        remote_app_name="ca",
        local_unit_data={
            "certificate_signing_requests": '[{"certificate_signing_request": "the request"}]'
        },
        remote_units_data={0: {}},
    )
    juju.change(relations={*juju.state.relations, authority})
    return juju


def all_follow(juju, auth_user, hooks=5):
    """Let the other units serve what this unit serves, and report its auth user, until nothing changes."""
    for _ in range(hooks):
        all_refreshed(juju, auth_user, juju.mine["serving"])
        if juju.workload.reminder(juju.container):
            juju.reminded()
    return juju
