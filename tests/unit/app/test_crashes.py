"""Each path of the specification, killed after each of its effects and run again, has the same end."""

import functools

import pytest
from crash_core import States, run, twin, works
from crash_ends import brought_to_rest, fits, seen
from in_memory import OBSERVERS, deployed, loki, related

from adapters.local.model import related as related_backend
from adapters.memory import MemoryPlatform
from domain.backend import BackendRelation
from domain.endpoints import endpoints_in

pytestmark = pytest.mark.long

LEADER, FOLLOWER = "pgbouncer/0", "pgbouncer/1"


def new():
    """Return units before their first hook."""
    return MemoryPlatform(units=2, service_host="pool")


def started():
    """Return started units without PostgreSQL."""
    return deployed(service_host="pool")


def served():
    """Return units with PostgreSQL, replicas and a client."""
    platform = related(service_host="pool")
    platform.backend(readers="10.1.0.2:5432")
    platform.relate("shop-app", "shop")
    return platform


def with_old_client():
    """Return units with PostgreSQL, and a client at `db` besides that at `database`."""
    platform = served()
    platform.relate("old-app", "old", endpoint="db")
    return platform


def with_two_old_clients():
    """Return units with PostgreSQL, and two clients at `db` with the same database."""
    platform = with_old_client()
    platform.relate("old-app", "old", endpoint="db-admin")
    return platform


def answered(**update):
    """Return units before the hooks that report PostgreSQL and a client."""
    platform = served()
    backend = platform.model.backend
    platform = started()
    platform.model.backend = backend.model_copy(update={"requested": False, **update})
    platform.model.relate("shop-app", "shop")
    return platform


def hook(name, *args, **kwargs):
    return lambda unit: getattr(unit, name)(*args, **kwargs)


# By row: the platform at the beginning, the unit and its hook.
def no_container(platform):
    for unit in platform.units.values():
        unit.pooler.reachable = False


def leader_started(platform):
    platform.leader.start()


def new_disk(platform):
    for unit in platform.units.values():
        unit.pooler.lose_disk()


def options(platform):
    platform.model.options = {"max_db_connections": 10, "listen_port": 7000}


def exposed(kind):
    """Return a change: the operator has exposed the application before."""

    def change(platform):
        platform.kubernetes.ingress = ("203.0.113.5",)
        platform.model.options = {"expose-external": kind}
        platform.leader.config_changed()
        platform.settle()

    return change


def exposes(kind, before="false"):
    """Return a change: the operator exposes the application in another way, with another port."""

    def change(platform):
        exposed(before)(platform)
        platform.model.options = {"expose-external": kind, "listen_port": 7000}

    return change


def trusts(platform):
    platform.kubernetes.trusted = False
    platform.kubernetes.services.clear()
    platform.leader.config_changed()
    platform.settle()
    platform.kubernetes.trusted = True


def options_shared(platform):
    options(platform)
    platform.leader.config_changed()


def invalid(platform):
    platform.model.options = {"pool_mode": "chaos", "listen_port": 7000}


def stale(platform):
    platform.model.leader_address = ""
    for client in platform.model.clients.values():
        client.told = client.told.model_copy(update={"version": "1"})


def died(platform):
    stale(platform)
    platform.leader.pooler.running.discard(1)


def lost_roles(platform):
    stale(platform)
    platform.server.roles.clear()
    platform.model.leader = FOLLOWER


def no_plan(platform):
    platform.model.plan = None


def no_secret(platform):
    platform.model.auth = None


def unit_gone(platform):
    del platform.model.units[FOLLOWER]
    del platform.units[FOLLOWER]


def removed(*unseen):
    """Begin to remove the leader, which does not see these units any more."""

    def change(platform):
        me = platform.model.units[LEADER]
        me.dying, me.unseen = True, frozenset(unseen)

    return change


def no_unit_stays(platform):
    unit_gone(platform)
    platform.model.units[LEADER].dying = True


def taken_up(platform):
    platform.leader.backend_changed()


def moved(platform):
    known = platform.model.backend.credentials
    to = {"endpoints": endpoints_in("10.1.0.9:5432"), "user": "relation_id_9"}
    platform.model.backend = related_backend(known.model_copy(update=to))


def leaving(platform):
    platform.model.units[FOLLOWER].leaving = True


def empty(platform):
    platform.model.backend = platform.model.backend.model_copy(update={"present": False})


def gone(platform):
    platform.model.backend = BackendRelation()


def asked(platform):
    platform.model.relate("blog-app", "blog", "admin")


def asked_in_vain(platform):
    platform.model.relate("bad-app", "postgres")
    asked(platform)


def changed_its_mind(platform):
    platform.model.clients[1].database = "store"


def unrelated(platform):
    del platform.model.clients[1]


def unrelated_in_silence(platform):
    unrelated(platform)
    platform.server.down = "PostgreSQL does not answer"


def old_client_asked(platform):
    platform.model.relate("old-app", "old", endpoint="db")


def old_client_asked_in_vain(platform):
    platform.model.relate("bad-app", "bad", endpoint="db", extensions="citext")
    old_client_asked(platform)


def unanswered(platform):
    platform.model.units[FOLLOWER].answers = {}


def stale_answers(platform):
    stale(platform)
    for unit in platform.model.units.values():
        unit.answers = {}


def old_client_unrelated(platform):
    del platform.model.clients[2]


def scraped():
    """Return units with PostgreSQL and a client, whose metrics Prometheus reads."""
    platform = served()
    platform.observe(metrics=True)
    return platform


def prometheus_comes(platform):
    platform.model.telemetry = platform.model.telemetry.model_copy(update={"metrics": True})


def prometheus_goes(platform):
    platform.model.telemetry = platform.model.telemetry.model_copy(update={"metrics": False})


def observers_come(platform):
    for endpoint in OBSERVERS:
        platform.observers.relate(endpoint)
    platform.observers.loki = loki(2)


def observed():
    """Return units with PostgreSQL and a client, whose observers know all."""
    platform = served()
    observers_come(platform)
    for unit in platform.units.values():
        unit.observers_changed()
    return platform


def loki_loses_a_unit(platform):
    platform.observers.loki = loki(1)


def observers_go(platform):
    for number in list(platform.observers.relations):
        platform.observers.unrelate(number)


def takes_the_port_of_an_exporter(platform):
    platform.model.options = {"listen_port": 9128}


def nothing(platform):
    pass


ROWS = {
    "start/1": (new, no_container, LEADER, hook("start")),
    "start/2": (new, leader_started, FOLLOWER, hook("start")),
    "start/2 again": (served, new_disk, LEADER, hook("start")),
    "start/3": (new, nothing, FOLLOWER, hook("start")),
    "start/4": (new, nothing, LEADER, hook("start")),
    "ready/1": (new, nothing, LEADER, hook("pebble_ready")),
    "ready/2": (served, new_disk, LEADER, hook("pebble_ready")),
    "config/1": (served, options, FOLLOWER, hook("config_changed")),
    "config/2": (new, nothing, LEADER, hook("config_changed")),
    "config/3": (served, options, LEADER, hook("config_changed")),
    "config/3 nodes": (served, exposes("nodeport"), LEADER, hook("config_changed")),
    "config/3 balancer": (served, exposes("loadbalancer"), LEADER, hook("config_changed")),
    "config/3 fewer": (
        served,
        exposes("nodeport", "loadbalancer"),
        LEADER,
        hook("config_changed"),
    ),
    "config/3 inside": (
        served,
        exposes("false", "loadbalancer"),
        LEADER,
        hook("config_changed"),
    ),
    "config/3 trust": (served, trusts, LEADER, hook("config_changed")),
    "config/4": (served, invalid, LEADER, hook("config_changed")),
    "update/1": (started, stale, LEADER, hook("update_status")),
    "update/2": (served, stale, LEADER, hook("update_status")),
    "update/3": (served, died, LEADER, hook("update_status")),
    "leader/1": (served, lost_roles, FOLLOWER, hook("leader_elected")),
    "leader/2": (served, nothing, LEADER, hook("peers_departed", LEADER)),
    "leader/2 backend": (served, removed("servers"), LEADER, hook("backend_departed", LEADER)),
    "leader/2 broken": (served, removed("backend"), LEADER, hook("backend_broken")),
    "leader/2 client": (served, removed("client 1"), LEADER, hook("clients_broken")),
    "leader/2 later": (served, removed("client 1", FOLLOWER), LEADER, hook("update_status")),
    "leader/2 last": (served, no_unit_stays, LEADER, hook("peers_departed", LEADER)),
    "peers/1": (new, nothing, FOLLOWER, hook("peers_created")),
    "peers/2": (new, nothing, LEADER, hook("peers_created")),
    "peers/3": (started, no_plan, LEADER, hook("peers_created")),
    "peers/4": (served, no_secret, LEADER, hook("peers_created")),
    "peers/5": (served, stale, LEADER, hook("peers_changed")),
    "peers/6": (served, options_shared, FOLLOWER, hook("peers_changed")),
    "peers/7": (new, nothing, FOLLOWER, hook("peers_changed")),
    "peers/8": (served, unit_gone, LEADER, hook("peers_departed", FOLLOWER)),
    "backend/1": (answered, new_disk, LEADER, hook("backend_changed")),
    "backend/2": (lambda: answered(credentials=None), nothing, LEADER, hook("backend_changed")),
    "backend/3": (answered, nothing, LEADER, hook("backend_changed")),
    "backend/4": (answered, taken_up, FOLLOWER, hook("backend_changed")),
    "backend/5": (served, moved, LEADER, hook("backend_changed")),
    "backend/6": (served, nothing, FOLLOWER, hook("backend_departed", FOLLOWER)),
    "backend/7": (served, nothing, LEADER, hook("backend_departed", "postgresql/1")),
    "backend/8": (served, empty, LEADER, hook("backend_departed", "postgresql/0")),
    "backend/9": (served, leaving, FOLLOWER, hook("backend_broken")),
    "backend/10": (served, gone, LEADER, hook("backend_broken")),
    "clients/1": (served, asked, FOLLOWER, hook("clients_changed")),
    "clients/2": (started, asked, LEADER, hook("clients_changed")),
    "clients/3": (served, asked, LEADER, hook("clients_changed")),
    "clients/3 again": (served, changed_its_mind, LEADER, hook("clients_changed")),
    "clients/4": (served, asked_in_vain, LEADER, hook("clients_changed")),
    "clients/5": (served, stale, LEADER, hook("clients_departed", "shop-app/1")),
    "clients/6": (served, unrelated_in_silence, LEADER, hook("clients_broken")),
    "clients/7": (served, unrelated, LEADER, hook("clients_broken")),
    "legacy/1": (new, old_client_asked, LEADER, hook("legacy_changed")),
    "legacy/1 backend": (started, old_client_asked, LEADER, hook("legacy_changed")),
    "legacy/1 follower": (started, old_client_asked, FOLLOWER, hook("legacy_changed")),
    "legacy/2": (served, old_client_asked_in_vain, LEADER, hook("legacy_changed")),
    "legacy/3": (served, old_client_asked, LEADER, hook("legacy_changed")),
    "legacy/4": (with_old_client, unanswered, FOLLOWER, hook("legacy_changed")),
    "legacy/5": (served, old_client_asked, FOLLOWER, hook("legacy_changed")),
    "legacy/6": (with_old_client, stale_answers, LEADER, hook("legacy_changed")),
    "legacy/7": (with_old_client, stale_answers, LEADER, hook("clients_departed", "old-app/1")),
    "legacy/8": (with_old_client, old_client_unrelated, LEADER, hook("clients_broken")),
    "legacy/9": (with_two_old_clients, old_client_unrelated, LEADER, hook("clients_broken")),
    "metrics/1": (served, prometheus_comes, FOLLOWER, hook("config_changed")),
    "metrics/2": (scraped, prometheus_goes, LEADER, hook("config_changed")),
    "metrics/3": (scraped, takes_the_port_of_an_exporter, LEADER, hook("config_changed")),
    "observers come, leader": (served, observers_come, LEADER, hook("observers_changed")),
    "observers come, follower": (served, observers_come, FOLLOWER, hook("observers_changed")),
    "observers change": (observed, loki_loses_a_unit, FOLLOWER, hook("observers_changed")),
    "observers' port": (observed, takes_the_port_of_an_exporter, LEADER, hook("config_changed")),
    "observers go": (observed, observers_go, LEADER, hook("observers_changed")),
    "legacy backend": (with_old_client, gone, LEADER, hook("backend_broken")),
}


begun = functools.cache(lambda state: state())


@pytest.mark.parametrize("row", ROWS)
def test_killed_after_any_effect_and_run_again_it_ends_the_same(row):
    state, change, name, of_the_row = ROWS[row]
    origin = twin(begun(state))
    change(origin)
    could = [number for number in origin.model.clients if works(origin, number)]
    killed, complete = States(), States()
    undisturbed = twin(origin)
    effects = run(undisturbed, name, of_the_row)
    complete.are_new(undisturbed)
    brought_to_rest(undisturbed)
    expected = seen(undisturbed)
    assert fits(undisturbed)
    if row != "leader/2 last":
        told = [number for number, client in undisturbed.model.clients.items() if client.told]
        assert expected["let in"] == told
    for last in range(effects + 1):
        platform = twin(origin)
        assert run(platform, name, of_the_row, last) is None
        if not killed.are_new(platform):
            continue
        # The hooks of these two rows withdraw everything from PostgreSQL.
        if row not in {"backend/8", "leader/2 last"}:
            assert [number for number in could if works(platform, number)] == could, last
        of_the_row(platform.units[name])
        if complete.are_new(platform):
            brought_to_rest(platform)
            assert (last, seen(platform)) == (last, expected)
            assert fits(platform)
