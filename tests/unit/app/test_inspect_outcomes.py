"""What show and report make of all that the consoles of a unit show, in whole."""

from contextlib import contextmanager

import pydantic
import pytest
from in_memory import deployed
from operated import session
from samples import AUTH, but

from app.errors import ConsoleFailed
from app.hooks.inspect import Inspect
from domain.backend import BackendLogin
from domain.change import next_change
from domain.console import DatabaseStats, PooledDatabase, PoolState, ServerState
from domain.endpoints import endpoints_in
from domain.inspection import ProcessView, bundle, sections
from domain.tls_told import plan_to_apply
from domain.users import Login

SHOWN = {
    "paused": frozenset({"shop"}),
    "databases": (PooledDatabase(alias="shop", database="shop", connections=3, most=9),),
    "pools": (
        PoolState(
            alias="shop", user="relation_id_4", clients_active=1, clients_waiting=2, servers_active=3,
            servers_idle=4, longest_wait=0.5, mode="session",
        ),
    ),
    "sessions": (session(7),),
    "servers": (ServerState(alias="shop", user="relation_id_4", state="idle", address="h:5432"),),
    "stats": (
        DatabaseStats(
            alias="shop", transactions=11, queries=12, transactions_per_second=13,
            queries_per_second=14, transaction_microseconds=15, wait_microseconds=16,
        ),
    ),
}  # fmt: skip
SECRETS = {
    name: pydantic.SecretStr(f"secret-{name}")
    for name in ("auth_password", "stats_password", "admin_password", "former_admin_password")
}
OTHERS = ("secret-client", "secret-next", "secret-earlier", "secret-backend")


def login(name):
    return Login(username=name, password=pydantic.SecretStr(f"secret-{name}"))


class Console:
    """The consoles of a unit; they answer to these arguments only."""

    def __init__(self, *arguments, failure=None, **shown):
        self._arguments, self._failure, self._shown = arguments, failure, shown

    @contextmanager
    def open(self, *arguments):
        assert arguments == self._arguments
        if self._failure:
            raise ConsoleFailed(self._failure)
        yield self

    def settings(self):
        return {"pool_mode": "session", "query_timeout": "7"}

    def __getattr__(self, name):
        return lambda: self._shown[name]


@pytest.fixture(scope="module")
def facts():
    """Return the facts of a unit that has a single process."""
    facts = deployed(units=1).leader.read()
    container = facts.container
    record = but(container.applied, instances=container.applied.instances[:1])
    return but(facts, auth=AUTH, container=but(container, applied=record))


def expected(facts, view):
    """Return the arguments from which the sections are made, with this view of the process."""
    config = next_change(facts, plan_to_apply(facts), facts.container.program).config
    return facts, (ProcessView(process=facts.container.applied.instances[0], **view),), config


def inspect(facts, **how):
    record = facts.container.applied
    places = [(process.index, process.port) for process in (record.instances if record else ())]
    console = Console(*places[0] if places else (), facts.auth, **how)
    return Inspect(type("Source", (), {"read": lambda _: facts})(), console)


def test_all_that_a_console_shows_is_shown(facts):
    view = {"settings": (("pool_mode", "session"), ("query_timeout", "7")), **SHOWN}
    assert inspect(facts, **SHOWN).show() == sections(*expected(facts, view))
    assert inspect(facts, **SHOWN).report() == bundle(*expected(facts, view))


def test_a_console_that_does_not_answer_is_named_with_its_error(facts):
    told = inspect(facts, failure="the socket is missing").show()
    assert told == sections(*expected(facts, {"failure": "the socket is missing"}))
    assert "the socket is missing" in told["drift"]


def test_before_there_are_users_no_console_is_asked(facts):
    bare = but(facts, auth=None)
    told = inspect(bare, failure="not asked").show()
    view = expected(bare, {"failure": "PgBouncer has no users yet"})
    assert told == sections(*view)
    assert inspect(bare, failure="not asked").report() == bundle(*view)


def test_without_a_plan_or_a_program_nothing_is_compared(facts):
    for bare in (
        but(facts, plan=None),
        but(facts, container=but(facts.container, program=None)),
    ):
        assert inspect(bare, **SHOWN).show()["drift"] == "none"
    nothing = but(facts, container=but(facts.container, applied=None))
    assert (
        inspect(nothing, failure="not asked").show()["pools"]
        == sections(nothing, (), None)["pools"]
    )


def test_no_secret_of_the_facts_is_in_a_report(facts):
    auth = AUTH.model_copy(
        update={
            **SECRETS,
            "clients": (login("client"),),
            "next_auth": login("next"),
            "former_auth": login("earlier"),
        }
    )
    backend = BackendLogin(
        user="operator", password=pydantic.SecretStr("secret-backend"), database="pgbouncer",
        endpoints=endpoints_in("10.1.0.1:5432"),
    )  # fmt: skip
    known = but(facts, auth=auth, backend=but(facts.backend, credentials=backend))
    secrets = [secret.get_secret_value() for secret in SECRETS.values()] + [*OTHERS]
    sessions = tuple(session(place, application=text) for place, text in enumerate(secrets))
    report = str(inspect(known, **SHOWN | {"sessions": sessions}).report())
    assert [secret for secret in secrets if secret in report] == []
    few = but(facts, auth=AUTH, backend=but(facts.backend, credentials=None))
    assert inspect(few, **SHOWN).report()["clients"]
