"""E-1: charms that know only the interface pgsql log in to a real PgBouncer by what a unit writes.

The readers here follow the code of charms: the library ops-lib-pgsql 1.4 with pgconnstr 1.0.1, and the charm of
Landscape (`_db_relation_changed`).
"""

import pathlib
import re

import ops
import psycopg
import pydantic
import pytest
import yaml
from ops import testing

from adapters.juju.clients import JujuClients
from adapters.juju.legacy import JujuLegacyClients
from adapters.juju.state import JujuState
from domain.users import AccessRequest, Login, Offer

META = yaml.safe_load((pathlib.Path(__file__).parents[2] / "metadata.yaml").read_text())
ASKED = {"database": "shop", "roles": "", "extensions": ""}
NETWORKS = {"egress-subnets": "10.9.0.1/32,10.8.0.0/24"}


# ---- as ops-lib-pgsql reads ----------------------------------------------------------------
def listed(text):
    return {item.strip() for item in (text or "").split(",") if item.strip()}


def is_ready(asked, own, given):
    """Return whether the provider has repeated the request, and lets all networks of the unit in."""
    for key in ("database", "roles", "extensions"):
        got, want = given.get(key) or "", asked.get(key) or ""
        if not (key == "database" and want == "") and got != want:
            return False
    return listed(own.get("egress-subnets")) <= listed(given.get("allowed-subnets"))


def master_by_library(bags, asked, own):
    """Return the first connection string of a databag that is ready; `bags` has their owners' names."""
    for _, given in sorted(bags.items()):
        if given.get("master") and is_ready(asked, own, given):
            return given["master"]
    return None


def pairs_by_library(text):
    """Return the pairs of a connection string by the pattern of pgconnstr."""
    pattern = re.compile(r"(\w+)\s*=\s*(?:'((?:.|\.)*?)'|(\S*))(?=(?:\s|\Z))")
    return {key: quoted or bare for key, quoted, bare in pattern.findall(text)}


# ---- as Landscape reads --------------------------------------------------------------------
def pairs_by_landscape(given, unit):
    """Return the pairs of the connection string in the databag of a unit; None while it is not ready."""
    if any(key not in given for key in ("master", "allowed-units", "port", "user")):
        return None
    if unit not in given["allowed-units"].split():
        return None
    return dict(pair.split("=", 1) for pair in given["master"].split(" "))


# ---- what a unit writes --------------------------------------------------------------------
@pytest.fixture(scope="module")
def credentials(pooler):
    """Return the login and the addresses of an application whose database a real PgBouncer serves."""
    pooler("relate", "shop")
    return pooler.credentials("shop")


@pytest.fixture
def bags(credentials):
    """Return the databags of the application and of a unit that has published this login, by owner."""
    # The name of the user has the number of the relation.
    number = int(credentials["username"].rpartition("_")[2])
    relation = testing.Relation(
        "db",
        id=number,
        remote_app_name="landscape",
        remote_app_data=ASKED,
        remote_units_data={0: NETWORKS, 1: NETWORKS},
    )
    peers = testing.PeerRelation("pgb-peers", id=number + 1)
    context = testing.Context(ops.CharmBase, meta=META)
    state = testing.State(leader=True, relations={relation, peers})
    event = context.on.relation_changed(relation, remote_unit=0)
    endpoints = credentials["endpoints"]
    offer = Offer(
        database="shop",
        endpoints=endpoints,
        read_only_endpoints=endpoints,
        read_only_alias="shop",
        version="15.1",
    )
    with context(event, state) as manager:
        juju = JujuState(manager.charm)
        clients = JujuLegacyClients(manager.charm, juju, JujuClients(manager.charm, juju))
        password = pydantic.SecretStr(credentials["password"])
        request = AccessRequest(
            relation_id=number, application="landscape", database="shop", endpoint="db"
        )
        login = Login(username=credentials["username"], password=password)
        clients.publish(request, offer, login, granted=True)
        written = manager.run().get_relation(relation.id)
    return {"pgbouncer-k8s": written.local_app_data, "pgbouncer-k8s/0": written.local_unit_data}


def test_e1_ops_lib_pgsql_logs_in_by_what_a_unit_writes(bags):
    for known in ({name: bag} for name, bag in bags.items()):
        text = master_by_library(known, ASKED, NETWORKS)
        found = pairs_by_library(text)
        with psycopg.connect(**found, connect_timeout=5) as connection:
            asked = connection.execute("SELECT current_database()").fetchone()
        assert asked == ("shop",)
        (standby,) = known.popitem()[1]["standbys"].splitlines()
        with psycopg.connect(**pairs_by_library(standby), connect_timeout=5) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_e1_landscape_logs_in_by_what_a_unit_writes(bags):
    given = bags["pgbouncer-k8s/0"]
    for unit in ("landscape/0", "landscape/1"):
        found = pairs_by_landscape(given, unit)
        assert (found["port"], found["user"]) == (given["port"], given["user"])
        with psycopg.connect(
            host=found["host"],
            port=found["port"],
            user=found["user"],
            password=found["password"],
            dbname=found["dbname"],
            connect_timeout=5,
        ) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (given["user"],)
    assert pairs_by_landscape(given, "landscape/2") is None


def test_e1_a_connection_string_has_single_spaces_and_no_quotes(bags):
    for bag in bags.values():
        for key in ("master", "standbys"):
            assert re.fullmatch(r"\w+=[^ '\"]+( \w+=[^ '\"]+)*", bag[key])


def test_e1_the_request_and_all_networks_are_repeated(bags):
    for bag in bags.values():
        assert is_ready(ASKED, NETWORKS, bag)
        assert not is_ready(ASKED, {"egress-subnets": "10.1.0.1/32"}, bag)
        assert not is_ready(ASKED | {"database": "blog"}, NETWORKS, bag)
