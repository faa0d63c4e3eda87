"""The charm in a real model: needs a Juju controller on Kubernetes, and a packed charm.

make pack
tox -e juju -- --charm ./pgbouncer-k8s_ubuntu-24.04-amd64.charm
"""

import asyncio

import pytest

pytest.importorskip(
    "pytest_operator", reason="needs a Juju controller on Kubernetes, and `make juju`"
)

APP, POSTGRESQL, CLIENT = "pgbouncer-k8s", "postgresql-k8s", "data-integrator"
TIMEOUT = 1500


@pytest.fixture(scope="module")
def image() -> str:
    return "ghcr.io/canonical/charmed-pgbouncer:1.21-22.04_edge"


async def _active(ops_test, *applications):
    await ops_test.model.wait_for_idle(
        apps=list(applications), status="active", timeout=TIMEOUT, raise_on_error=False
    )


async def _credentials(ops_test) -> dict:
    unit = ops_test.model.applications[CLIENT].units[0]
    action = await (await unit.run_action("get-credentials")).wait()
    return action.results["postgresql"]


async def _ask(ops_test, credentials: dict, host: str, statement: str) -> str:
    """What psql prints, run in a pod of PostgreSQL, which has it."""
    uri = "postgresql://{username}:{password}@{host}/{database}".format(
        **{key: credentials[key] for key in ("username", "password", "database")}, host=host
    )
    command = ["psql", uri, "-XAtqc", statement]
    code, out, err = await ops_test.juju(
        "ssh", "--container", "postgresql", f"{POSTGRESQL}/0", *command
    )
    assert code == 0, err
    return out.strip()


@pytest.mark.abort_on_fail
async def test_deploys_and_waits_for_its_backend(ops_test, charm, image):
    await ops_test.model.deploy(
        charm, APP, num_units=2, trust=True, resources={"pgbouncer-image": image}
    )
    await asyncio.gather(
        ops_test.model.deploy(POSTGRESQL, channel="14/stable", trust=True),
        ops_test.model.deploy(CLIENT, config={"database-name": "shop"}),
    )
    await ops_test.model.wait_for_idle(apps=[APP], status="blocked", timeout=TIMEOUT)
    unit = ops_test.model.applications[APP].units[0]
    assert unit.workload_status_message == "missing relation: backend-database"


@pytest.mark.abort_on_fail
async def test_serves_a_client_through_every_unit(ops_test):
    await ops_test.model.integrate(f"{APP}:backend-database", f"{POSTGRESQL}:database")
    await ops_test.model.integrate(f"{APP}:database", f"{CLIENT}:postgresql")
    await _active(ops_test, APP, POSTGRESQL, CLIENT)
    credentials = await _credentials(ops_test)
    assert await _ask(ops_test, credentials, credentials["endpoints"], "select 42") == "42"
    status = await ops_test.model.get_status()
    for unit in status.applications[APP].units.values():
        assert await _ask(ops_test, credentials, f"{unit.address}:6432", "select 42") == "42"


@pytest.mark.abort_on_fail
async def test_scales_up_and_down(ops_test):
    for units in (3, 1):
        await ops_test.model.applications[APP].scale(units)
        await ops_test.model.wait_for_idle(
            apps=[APP], status="active", timeout=TIMEOUT, wait_for_exact_units=units
        )
        credentials = await _credentials(ops_test)
        assert await _ask(ops_test, credentials, credentials["endpoints"], "select 42") == "42"


@pytest.mark.abort_on_fail
async def test_a_new_port_reaches_the_clients(ops_test):
    await ops_test.model.applications[APP].set_config({"listen_port": "6543"})
    await _active(ops_test, APP)
    credentials = await _credentials(ops_test)
    assert credentials["endpoints"].endswith(":6543")
    assert await _ask(ops_test, credentials, credentials["endpoints"], "select 42") == "42"


@pytest.mark.abort_on_fail
async def test_an_invalid_option_is_named_and_changes_nothing(ops_test):
    application = ops_test.model.applications[APP]
    await application.set_config({"pool_mode": "chaos"})
    await ops_test.model.wait_for_idle(apps=[APP], timeout=TIMEOUT)
    messages = [unit.workload_status_message for unit in application.units]
    assert any("option pool_mode" in message for message in messages)
    credentials = await _credentials(ops_test)
    assert await _ask(ops_test, credentials, credentials["endpoints"], "select 42") == "42"
    await application.reset_config(["pool_mode"])
    await _active(ops_test, APP)
