"""Whole expressions of the alerts on pools, as Prometheus gets them."""

import pytest

from domain import pool_alerts
from domain.settings import Settings, settings_from

PROCESS = "instance, job, process"
SERVER = "host, port, database, force_user, pool_mode"
POOLS = '{database!="pgbouncer"}'
DATABASES = '{name!~"pgbouncer|pgbouncer_auth|pgbouncer_auth_2"}'
LOOK_UPS = '{database=~"pgbouncer_auth|pgbouncer_auth_2"}'
UNREACHABLE_FOR_2_MINUTES = (
    f"unless ignoring (user) sum without ({PROCESS}, user) ("
    f"max_over_time(pgbouncer_pools_server_active_connections{POOLS}[2m])"
    f" + max_over_time(pgbouncer_pools_server_idle_connections{POOLS}[2m])"
    f" + max_over_time(pgbouncer_pools_server_used_connections{POOLS}[2m])"
    f" + max_over_time(pgbouncer_pools_server_testing_connections{POOLS}[2m])) == 0"
)


def of_clients(expression):
    """Return an expression of databases with the name that clients use."""
    renamed = f'label_replace({expression}, "database", "$1", "name", "(.+)")'
    return f"max without (name) ({renamed})"


def column(name):
    """Return a metric of databases without the labels of the server."""
    return f"max without ({SERVER}) (pgbouncer_databases_{name}{DATABASES})"


def highest(expression):
    """Return the highest value of the processes of a unit."""
    return f"max without ({PROCESS}) ({expression})"


PAUSED = highest(of_clients(column("paused"))) + " > 0"


def connections(selector):
    """Return the open server connections of a unit to each database."""
    return (
        f"sum without ({PROCESS}, user) (pgbouncer_pools_server_active_connections{selector}"
        f" + pgbouncer_pools_server_idle_connections{selector}"
        f" + pgbouncer_pools_server_used_connections{selector}"
        f" + pgbouncer_pools_server_testing_connections{selector})"
    )


FULL = (
    of_clients(f"{column('current_connections')} / ({column('max_connections')} > 0)") + " > 0.9"
)
FULL_FOR_3_MINUTES = of_clients(
    f"max without ({SERVER}) (min_over_time(pgbouncer_databases_current_connections{DATABASES}[3m]))"
    f" / (max without ({SERVER})"
    f" (max_over_time(pgbouncer_databases_max_connections{DATABASES}[3m])) > 0)"
)


@pytest.mark.parametrize(("timeout", "near"), [(1, 0), (2, 1), (31, 15), (120, 60)])
def test_a_wait_near_its_end_is_critical_while_postgresql_answers(timeout, near):
    alert = pool_alerts.wait_near_timeout(timeout)
    assert alert.expression == (
        f"max without ({PROCESS}) (pgbouncer_pools_client_maxwait_seconds{POOLS}) > {near}\n"
        + UNREACHABLE_FOR_2_MINUTES
    )
    assert (alert.name, alert.seconds, alert.severity) == (
        "PgBouncerWaitNearTimeout",
        60,
        "critical",
    )
    assert alert.description == (
        "A client of user {{ $labels.user }} and database {{ $labels.database }} at unit"
        " {{ $labels.juju_unit }} waits for {{ $value }} s."
        f" After {timeout} s (query_wait_timeout) PgBouncer disconnects it."
    )


NEAR_FOR_A_MINUTE = (
    f"\nunless max without ({PROCESS})"
    f" (min_over_time(pgbouncer_pools_client_maxwait_seconds{POOLS}[1m])) > "
)
FULL_POOL = f"\nunless ignoring (user) {highest(FULL_FOR_3_MINUTES + ' > 0.9')}"


@pytest.mark.parametrize(
    ("timeout", "limited", "reasons"),
    [
        (0, False, ""),
        (0, True, FULL_POOL),
        (31, False, NEAR_FOR_A_MINUTE + "15"),
        (1, True, NEAR_FOR_A_MINUTE + "0" + FULL_POOL),
    ],
)
def test_clients_wait_for_a_reason_that_has_no_other_alert(timeout, limited, reasons):
    alert = pool_alerts.clients_waiting(timeout, limited=limited)
    assert alert.expression == (
        f"sum without ({PROCESS}) (pgbouncer_pools_client_waiting_connections{POOLS}) > 0\n"
        f"{UNREACHABLE_FOR_2_MINUTES}\nunless ignoring (user) {PAUSED}{reasons}"
    )
    assert (alert.name, alert.seconds, alert.severity) == (
        "PgBouncerClientsWaiting",
        300,
        "warning",
    )
    assert alert.description == (
        "{{ $value }} clients of user {{ $labels.user }} and database {{ $labels.database }} at unit"
        " {{ $labels.juju_unit }} wait. For five minutes there has always been a client that waits."
    )


def test_alerts_that_no_option_changes_have_whole_expressions():
    assert pool_alerts.SERVER_UNREACHABLE.expression == (
        f"sum without ({PROCESS}, user) (pgbouncer_pools_client_waiting_connections{POOLS}) > 0\n"
        f"and {connections(POOLS)} == 0\n"
        f"unless {PAUSED}\n"
        "or\n"
        f"{connections(LOOK_UPS)} == 0\n"
        "and "
        + highest(
            of_clients(
                f"max without ({SERVER}) (pgbouncer_databases_pool_size"
                '{name=~"pgbouncer_auth|pgbouncer_auth_2",force_user!=""})'
            )
        )
    )
    assert pool_alerts.POOL_FULL.expression == highest(
        f"{FULL}\nand ignoring (user) pgbouncer_pools_client_waiting_connections{POOLS} > 0"
    )
    assert pool_alerts.PAUSED_OR_DISABLED.expression == (
        highest(of_clients(f"({column('paused')}) + ({column('disabled')})")) + " > 0"
    )


UNREACHABLE, NEAR, TOO_FULL, WAITING, STOPPED = (
    "PgBouncerServerUnreachable", "PgBouncerWaitNearTimeout", "PgBouncerPoolFull",
    "PgBouncerClientsWaiting", "PgBouncerPausedOrDisabled",
)  # fmt: skip
OF_SHOP = '{"databases": {"blog": {"pool_size": 3}, "shop": {"max_connections": 1}}}'


@pytest.mark.parametrize(
    ("options", "all_paused", "expected"),
    [
        ({}, False, [UNREACHABLE, NEAR, TOO_FULL, WAITING, STOPPED]),
        ({"max_db_connections": 1}, True, [NEAR, TOO_FULL, STOPPED]),
        ({"query_wait_timeout": 0}, False, [UNREACHABLE, TOO_FULL, WAITING, STOPPED]),
        ({"query_wait_timeout": 1, "max_db_connections": 0}, True, [NEAR, STOPPED]),
        ({"max_db_connections": 0}, False, [UNREACHABLE, NEAR, WAITING, STOPPED]),
        (
            {"max_db_connections": 0, "overrides": OF_SHOP},
            False,
            [UNREACHABLE, NEAR, TOO_FULL, WAITING, STOPPED],
        ),
    ],
)
def test_alerts_on_pools_are_those_that_the_options_allow(options, all_paused, expected):
    settings, _ = settings_from(options)
    found = pool_alerts.rows(settings, all_paused=all_paused)
    assert [alert.name for alert in found] == expected
    whole = {alert.name: alert for alert in found}
    if NEAR in whole:
        assert whole[NEAR] == pool_alerts.wait_near_timeout(settings.query_wait_timeout)
    if WAITING in whole:
        assert whole[WAITING] == pool_alerts.clients_waiting(
            settings.query_wait_timeout, limited=TOO_FULL in whole
        )


def test_without_a_pause_of_all_databases_every_alert_on_pools_is_there():
    names = [alert.name for alert in pool_alerts.rows(Settings())]
    assert names == [UNREACHABLE, NEAR, TOO_FULL, WAITING, STOPPED]
