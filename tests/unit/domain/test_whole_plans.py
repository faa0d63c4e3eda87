"""The whole plan of a leader."""

import pydantic
import pytest
from in_memory import related
from plans import plan as plan_of
from samples import but

from domain import planning
from domain.budget import UnitBudget
from domain.certificate_logins import CertificateLogin, ClientCertificate
from domain.endpoints import endpoints_in
from domain.facts import Client, Peer
from domain.operations import KillOrder, Operations, Pause
from domain.plan import DepartedUnit, Member, Plan, Serving, Upstream
from domain.rotation import EndedLogin, Rotation
from domain.settings import Settings, settings_from
from domain.users import AccessRequest, Login, Offer, grant_for


def pem(letters):
    return f"-----BEGIN CERTIFICATE-----\n{letters}\n-----END CERTIFICATE-----"


ROOT, MINE, THEIRS = pem("cm9vdA=="), pem("bWluZQ=="), pem("dGhlaXJz")


@pytest.fixture(scope="module")
def calm():
    """Return the facts of a leader alone, whose unit has 10.0.0.1 and 2 processors."""
    return related(units=1).leader.read()


def request(number, database="shop", **changes):
    return AccessRequest(relation_id=number, application="shop-app", database=database, **changes)


def asking(*requests):
    """Return the clients with these requests, and their grants."""
    clients = tuple(Client(request=known) for known in requests)
    return clients, tuple(grant_for(known) for known in requests)


# ---- restarts --------------------------------------------------------------------------------
def restarting(wanted, *members):
    """Return a plan whose members may restart with these numbers."""
    return plan_of(
        restarts=wanted, units=len(members), limit=100
    ).model_copy(
        update={
            "members": tuple(
                Member(name=f"pgbouncer/{place}", address=f"10.0.0.{place + 1}", share=share,
                       restarts=number)
                for place, (number, share) in enumerate(members)
            )
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("members", "mine", "others", "expected"),
    [
        # The first unit restarts, and the other units wait for it.
        (((1, 30), (1, 30), (1, 30)), 1, (1, 1), [4, 1, 1]),
        (((4, 30), (1, 30), (1, 30)), 4, (1, 1), [4, 4, 1]),
        (((4, 30), (4, 30), (1, 30)), 5, (4, 1), [4, 4, 4]),
        # A later unit that has restarted already lets no other unit go.
        (((1, 30), (1, 30), (1, 30)), 1, (4, 4), [4, 1, 1]),
        # A unit without connections has no process, and a new unit no process from before.
        (((1, 0), (1, 30), (1, 30)), 1, (1, 1), [4, 4, 1]),
        (((1, 30),), 1, (1, 1), [4, 4, 4]),
        (((4, 30), (1, 30)), 4, (1, 1), [4, 4, 4]),
    ],
)
def test_units_restart_in_turn(calm, members, mine, others, expected):
    peers = tuple(
        Peer(
            name=f"pgbouncer/{place}",
            address=f"10.0.0.{place + 1}",
            operations=Operations(restarts=number),
        )
        for place, number in enumerate(others, 1)
    )
    facts = but(
        calm,
        plan=restarting(4, *members),
        operations=Operations(restarts=mine),
        peers=peers,
    )
    assert [member.restarts for member in planning.plan(facts).members] == expected


def test_in_the_first_plan_no_unit_has_restarted(calm):
    peers = (Peer(name="pgbouncer/1", address="10.0.0.2"),)
    first = planning.plan(but(calm, plan=None, peers=peers))
    assert [member.restarts for member in first.members] == [0, 0]


# ---- a plan ----------------------------------------------------------------------------------
def test_a_plan_keeps_what_operators_asked_and_follows_what_clients_ask(calm):
    clients, grants = asking(request(1), request(2, "blog"))
    before = but(
        calm.plan,
        known_users=("former",),
        paused=(Pause(database="shop", since=5), Pause(database="gone", since=6)),
        disabled=("blog", "gone"),
        restarts=3,
        reconnects=4,
        kills=KillOrder(number=5, user="relation_id_1"),
        revision=8,
    )
    settings, _ = settings_from({"overrides": '{"users": {"ann": {"pool_size": 3}}}'})
    ended = Rotation(username="relation_id_1", stage="told", seconds=0, cut=7.0)
    ledger = but(calm.ledger, grants=grants, roamed=("made",), rotations=(ended,))
    facts = but(calm, plan=before, settings=settings, ledger=ledger, clients=clients)
    (member,) = before.members
    assert planning.plan(facts) == Plan(
        settings=settings,
        members=(but(member, restarts=3),),
        upstream=before.upstream,
        databases=("blog", "made", "shop"),
        short_lived=("made",),
        known_users=("ann", "former"),
        paused=(Pause(database="shop", since=5),),
        disabled=("blog",),
        restarts=3,
        reconnects=4,
        kills=KillOrder(number=5, user="relation_id_1"),
        ended_logins=(
            EndedLogin(user="relation_id_1__2", at=7.0),
            EndedLogin(user="relation_id_1", at=7.0),
        ),
        revision=9,
    )


def test_databases_that_clients_made_go_with_the_last_client(calm):
    ledger = but(calm.ledger, grants=(), roamed=("made",))
    left = planning.plan(but(calm, ledger=ledger))
    assert (left.databases, left.short_lived) == ((), ())


@pytest.mark.parametrize(
    ("port", "former", "told", "process_set", "expected"),
    [
        (6432, None, 6432, 1, (6432, None, 1)),
        (7000, None, 6432, 0, (7000, 6432, 1)),
        (7000, None, 6432, 1, (7000, 6432, 0)),
        # The change before ends first.
        (7000, 5000, 6432, 1, (6432, None, 1)),
        (7000, 5000, 5000, 1, (6432, 5000, 1)),
        (7000, 5000, 16432, 1, (6432, 5000, 1)),
    ],
)
def test_a_port_changes_by_the_other_set_of_processes(
    calm, port, former, told, process_set, expected
):
    asked = request(1)
    offer = Offer(database="shop", endpoints=f"pool:{told}")
    facts = but(
        calm,
        plan=but(calm.plan, former_port=former, process_set=process_set),
        settings=but(calm.settings, listen_port=port),
        ledger=but(calm.ledger, grants=(grant_for(asked),)),
        clients=(Client(request=asked, published=offer),),
    )
    planned = planning.plan(facts)
    assert (planned.settings.listen_port, planned.former_port, planned.process_set) == expected


def test_members_and_leavers_are_planned_with_their_connections(calm):
    members = (
        Member(name="pgbouncer/0", address="10.0.0.1", processors=2, share=40),
        Member(name="pgbouncer/1", address="10.0.0.2", processors=3, share=30),
        Member(name="pgbouncer/2", address="10.0.0.3", processors=4, share=20, held=25),
    )
    leavers = (DepartedUnit(name="pgbouncer/9", address="10.0.0.9", held=4),)
    peers = (
        Peer(name="pgbouncer/1", address="10.0.0.77", budget=UnitBudget(share=30, held=31)),
        Peer(
            name="pgbouncer/10",
            address="10.0.0.11",
            serving=Serving(port=6432, processors=6),
        ),
    )
    facts = but(
        calm,
        plan=but(calm.plan, members=members, leavers=leavers),
        peers=peers,
        budget=UnitBudget(share=40, held=40),
    )
    planned = planning.plan(facts)
    assert planned.leavers == (
        DepartedUnit(name="pgbouncer/2", address="10.0.0.3", held=25),
        *leavers,
    )
    assert [(unit.name, unit.address, unit.processors) for unit in planned.members] == [
        ("pgbouncer/0", "10.0.0.1", 2),
        ("pgbouncer/1", "10.0.0.77", 3),
        ("pgbouncer/10", "10.0.0.11", 6),
    ]
    assert [(unit.share, unit.held) for unit in planned.members] == [
        (34, 40),
        (31, 0),
        (0, 0),
    ]
    assert planning.plan(facts, ("pgbouncer/2", "pgbouncer/9")).leavers == ()
    assert planning.departed_holding_connections(facts) == planned.leavers


def test_a_plan_tells_the_tls_that_its_unit_serves(calm):
    related_ = but(calm.certificates, related=True)
    serving = calm.serving.encrypted((ROOT,))
    planned = planning.plan(but(calm, certificates=related_, serving=serving))
    assert (planned.tls, planned.client_authorities) == (True, (ROOT,))


def test_a_first_plan_has_its_port_at_once_and_no_leavers_without_a_limit(calm):
    settings = Settings(listen_port=7000, max_db_connections=0)
    assert planning.plan(but(calm, plan=None, settings=settings)).ports == (7000,)
    leavers = (DepartedUnit(name="pgbouncer/9", address="10.0.0.9", held=4),)
    before = but(calm.plan, leavers=leavers)
    unlimited = but(calm, plan=before, settings=Settings(max_db_connections=0))
    assert planning.plan(unlimited).leavers == ()


# ---- PostgreSQL ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("schema", "user", "used", "alias"),
    [
        ("own_schema", "pgbouncer_auth_relation_id_7", "own_schema", "pgbouncer_auth"),
        ("other", "pgbouncer_auth_relation_id_7_2", "pgbouncer", "pgbouncer_auth_2"),
    ],
)
def test_the_server_of_the_pools_is_that_of_the_backend(calm, schema, user, used, alias):
    login = but(
        calm.backend.credentials,
        user="relation-id-7",
        database="own",
        endpoints=endpoints_in("10.2.0.1:5433"),
        read_only=endpoints_in("10.2.0.2:5434"),
        version="16.7",
        tls=True,
        rooted=True,
        authorities=(ROOT,),
        authority_file="/etc/ssl/root.pem",
    )
    former = Login(username="former_auth_user", password=pydantic.SecretStr("p8"))
    auth = but(calm.auth, auth_user=user, auth_schema="own_schema", former_auth=former)
    ledger = but(
        calm.ledger, provisioned_for="relation-id-7", auth_schema=schema, server="since Monday"
    )
    backend = but(calm.backend, credentials=login)
    facts = but(calm, plan=None, auth=auth, ledger=ledger, backend=backend)
    expected = Upstream(
        endpoints=endpoints_in("10.2.0.1:5433"),
        read_only=endpoints_in("10.2.0.2:5434"),
        auth_database="own",
        auth_user=user,
        auth_schema=used,
        auth_alias=alias,
        former_auth_user="former_auth_user",
        version="16.7",
        mode="verify-full",
        authorities=(ROOT,),
        authority_file="/etc/ssl/root.pem",
        server_id="since Monday",
    )
    assert planning.upstream(facts) == expected
    trusting = but(facts, settings=Settings(backend_tls_sslmode="prefer"))
    unverified = {"mode": "prefer", "authorities": (), "authority_file": ""}
    assert planning.upstream(trusting) == but(expected, **unverified)
    forgetful = but(facts, auth=but(auth, former_auth=None))
    assert planning.upstream(forgetful) == but(expected, former_auth_user="")


def test_a_server_that_is_known_stays_while_another_user_is_provisioned(calm):
    other = but(calm, ledger=but(calm.ledger, provisioned_for="another"))
    assert planning.upstream(other) == calm.plan.upstream
    assert planning.upstream(but(other, plan=None)) is None
    for nothing in (
        {"backend": but(calm.backend, present=False)},
        {"backend": but(calm.backend, related=False)},
        {"auth": None},
        {"ledger": but(calm.ledger, provisioned_for="")},
        {"settings": Settings(backend_tls_sslmode="require-verify")},
    ):
        assert planning.upstream(but(calm, **nothing)) is None


# ---- certificates of clients -----------------------------------------------------------------
def certificate(text, name):
    return ClientCertificate(text=text, name=name, names=(name,))


def login(user, text, name):
    return CertificateLogin(username=user, name=name, certificate=text, names=(name,))


def test_a_client_logs_in_by_its_certificate_with_both_of_its_names(calm):
    clients, grants = asking(
        request(1, certificate=certificate(MINE, "mine"), renamed="relation_id_1__2"),
        request(2, certificate=certificate(THEIRS, "mine")),
        request(3),
    )
    rotation = Rotation(username="relation_id_1", second=True, stage="told")
    before = but(calm.plan, certificate_logins=(login("relation_id_1", MINE, "mine"),))
    ledger = but(calm.ledger, grants=grants, rotations=(rotation,))
    facts = but(calm, plan=before, clients=clients, ledger=ledger)
    logins = (
        login("relation_id_1", MINE, "mine"),
        login("relation_id_1__2", MINE, "mine"),
    )
    problem = "because another client has a certificate with the same name"
    assert planning.certificate_logins(facts) == (logins, {"relation_id_2": problem})
    assert planning.plan(facts).certificate_logins == logins
    ended = facts.recording(but(ledger, rotations=(but(rotation, stage="ended"),)))
    assert planning.certificate_logins(ended)[0] == logins[1:]


def test_a_bad_request_keeps_the_certificate_that_is_in_use(calm):
    clients, grants = asking(
        request(1, kept=True), request(2, kept=True, certificate=certificate(THEIRS, "theirs"))
    )
    mine = login("relation_id_1", MINE, "mine")
    before = but(calm.plan, certificate_logins=(mine,))
    facts = but(calm, plan=before, clients=clients, ledger=but(calm.ledger, grants=grants))
    assert planning.certificate_logins(facts) == ((mine,), {})
    # Without its grant the request has ended.
    ended = facts.recording(but(facts.ledger, grants=grants[1:]))
    assert planning.certificate_logins(ended) == ((), {})
    assert planning.certificate_logins(but(facts, plan=None)) == ((), {})


def test_a_client_with_its_other_name_keeps_its_certificate(calm):
    clients, grants = asking(
        request(1, kept=True, renamed="relation_id_1__2"),
        request(2, certificate=certificate(THEIRS, "mine")),
    )
    before = but(calm.plan, certificate_logins=(login("relation_id_1", MINE, "mine"),))
    facts = but(calm, plan=before, clients=clients, ledger=but(calm.ledger, grants=grants))
    problem = "because another client has a certificate with the same name"
    assert planning.certificate_logins(facts) == (
        (login("relation_id_1__2", MINE, "mine"),),
        {"relation_id_2": problem},
    )
