"""Whole texts of the status, for each thing that may be wrong."""

import pydantic
import pytest
from in_memory import related
from samples import but

from domain.capabilities import PgBouncerRuntime, Version
from domain.certificate_logins import ClientCertificate
from domain.endpoints import endpoints_in
from domain.exporters import AppliedExporters, ExporterProgram
from domain.facts import Client, LegacyClient
from domain.operations import ALL, Holder, Operations, Pause
from domain.problems import Level, Problem
from domain.settings import Settings
from domain.status import assess
from domain.tls import ServedPair
from domain.users import AccessRequest, Grant, Login

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
PAIR = ServedPair(key=pydantic.SecretStr("key"), chain=(PEM,))


@pytest.fixture(scope="module")
def calm():
    """Return the facts of a unit where nothing is wrong."""
    facts = related(units=1).leader.read()
    assert [sentence.text for sentence in assess(facts)] == [""]
    return facts


def with_plan(facts, **changes):
    return but(facts, plan=but(facts.plan, **changes))


def with_container(facts, **changes):
    return but(facts, container=but(facts.container, **changes))


def said(facts):
    return [(sentence.level.value, sentence.text) for sentence in assess(facts)]


# ---- certificates of clients -----------------------------------------------------------------
def client(number, application, certificate=None):
    request = AccessRequest(
        relation_id=number, application=application, database="shop", certificate=certificate
    )
    return Client(request=request)


CLIENTS = (
    client(11, "shop", ClientCertificate(text=PEM, name="shop", names=("shop",))),
    client(12, "wiki"),
    client(13, "blog", ClientCertificate(problem="because it is no certificate")),
)
WORKS = "Its password works"


def refused(reason, *clients):
    return [
        ("blocked", f"{name} cannot log in by its certificate, {reason}. {WORKS}")
        for name in clients
    ]


@pytest.mark.parametrize(
    ("kept", "version", "expected"),
    [
        (
            None,
            Version(1, 24),
            refused(
                "because units serve no TLS: relate certificates to an authority",
                "shop (relation 11)",
                "blog (relation 13)",
            ),
        ),
        (
            PAIR,
            Version(1, 23, 7),
            refused(
                "because PgBouncer 1.23.7 runs: refresh to 1.24 or later",
                "shop (relation 11)",
                "blog (relation 13)",
            ),
        ),
        (PAIR, Version(1, 24), refused("because it is no certificate", "blog (relation 13)")),
        (PAIR, None, refused("because it is no certificate", "blog (relation 13)")),
    ],
)
def test_a_certificate_that_does_not_log_in_is_named_with_the_reason(
    calm, kept, version, expected
):
    program = PgBouncerRuntime(version=version) if version else None
    facts = but(
        with_container(calm, program=program),
        clients=CLIENTS,
        certificates=but(calm.certificates, kept=kept),
    )
    assert said(facts) == expected


# ---- exporters -------------------------------------------------------------------------------
def observed(facts, exporters, ports=(6432, 6432), **changes):
    """Return the facts of a unit whose processes have these ports, and that Prometheus scrapes."""
    record = facts.container.applied
    processes = tuple(
        but(process, port=port) for process, port in zip(record.instances, ports, strict=True)
    )
    record = but(record, instances=processes)
    facts = with_container(facts, applied=record, exporters=exporters)
    return but(facts, telemetry=but(facts.telemetry, metrics=True), **changes)


def exporter(version=None, path="/bin/exporter"):
    return AppliedExporters(program=ExporterProgram(path=path, version=version))


NONE_OF = "Prometheus gets no metrics of process {}: listen_port is {}, the port of its exporter"


@pytest.mark.parametrize(
    ("exporters", "ports", "expected"),
    [
        (None, (9127, 9127), ""),
        (AppliedExporters(), (9127, 9127), ""),
        (
            exporter(Version(0, 7), path=""),
            (9127, 9127),
            "Prometheus gets no metrics: the image has no pgbouncer_exporter",
        ),
        (
            exporter(Version(0, 7, 1)),
            (6432, 6432),
            "pgbouncer_exporter 0.7.1 has no metrics of cancel requests and prepared statements and"
            " clients by application: use an image with 0.12 or later",
        ),
        (exporter(Version(0, 12)), (6432, 6432), ""),
        (exporter(), (9127, 9127), NONE_OF.format(0, 9127)),
        (exporter(), (9128, 9128), NONE_OF.format(1, 9128)),
        (exporter(), (9128, 9127), f"{NONE_OF.format(0, 9127)}; {NONE_OF.format(1, 9128)}"),
    ],
)
def test_metrics_that_prometheus_does_not_get_are_named(calm, exporters, ports, expected):
    facts = observed(calm, exporters, ports)
    assert said(facts) == [("active", expected)]
    unscraped = but(facts, telemetry=but(facts.telemetry, metrics=False))
    assert said(unscraped) == [("active", "")]


def test_without_a_record_of_processes_no_exporter_is_missed(calm):
    facts = with_container(observed(calm, exporter(path="")), applied=None)
    assert said(facts) == [("waiting", "waiting for PgBouncer to run")]


# ---- files and connections -------------------------------------------------------------------
def with_files(facts, files, *limits):
    record = facts.container.applied
    processes = tuple(
        but(process, limit=limit) for process, limit in zip(record.instances, limits, strict=True)
    )
    program = but(facts.container.program, files=files)
    return with_container(facts, program=program, applied=but(record, instances=processes))


FEW = (
    "PgBouncer may open {} files, enough for {} clients of each process: raise the limit of open"
    " files, or lower max_db_connections"
)


@pytest.mark.parametrize(
    ("limits", "files", "clients"),
    [((10, 10), 209, 99), ((9, 10), 209, 99), ((0, 10), 213, 93), ((10, 9), 209, 99)],
)
def test_files_for_fewer_than_a_hundred_clients_are_too_few(calm, limits, files, clients):
    facts = with_plan(calm, databases=())
    text = FEW.format(files, clients)
    assert said(with_files(facts, files, *limits)) == [("blocked", text)]
    enough = with_files(facts, files + 100 - clients, *limits)
    assert said(enough) == [("active", "")]


def test_a_database_takes_files_from_clients(calm):
    facts = with_plan(calm, databases=("shop",))
    assert said(with_files(facts, 219, 10, 10)) == [("blocked", FEW.format(219, 99))]


def test_files_are_not_counted_without_a_plan_or_a_record(calm):
    facts = with_files(calm, 10, 10, 10)
    assert said(but(facts, plan=None)) != said(facts)
    assert said(with_container(facts, applied=None)) == [
        ("waiting", "waiting for PgBouncer to run")
    ]
    assert said(with_container(facts, program=None)) == [("active", "")]


@pytest.mark.parametrize(("capacity", "cure"), [
    (0, None),
    (204, None),
    (203, "lower max_db_connections to 99, or raise"),
    (6, "lower max_db_connections to 1, or raise"),
    (5, "raise"),
    (3, "raise"),
])  # fmt: skip
def test_more_connections_than_postgresql_accepts_are_told_with_a_cure(calm, capacity, cure):
    # Each of two processes looks passwords up by two connections.
    facts = with_plan(calm, databases=("blog", "shop"))
    facts = facts.recording(but(facts.ledger, capacity=capacity))
    text = (
        f"the pools may open 204 connections and PostgreSQL accepts {capacity}: {cure}"
        " max_connections of PostgreSQL"
    )
    assert said(facts) == [("active", text if cure else "")]
    assert said(with_plan(facts, upstream=None))[0] != ("active", text)


def test_without_a_limit_each_user_counts_against_the_capacity(calm):
    facts = with_plan(calm, settings=Settings(max_db_connections=0, default_pool_size=7))
    grants = tuple(
        Grant(relation_id=number, username=f"relation_id_{number}", database="shop")
        for number in (1, 2, 3)
    )
    facts = facts.recording(but(facts.ledger, capacity=24, grants=grants))
    assert said(facts) == [
        (
            "active",
            "the pools may open 25 connections and PostgreSQL accepts 24: lower"
            " max_db_connections to 6, or raise max_connections of PostgreSQL",
        )
    ]


def test_a_limit_too_low_for_replicas_is_named_with_the_number_needed(calm):
    upstream = but(calm.plan.upstream, read_only=endpoints_in("10.1.0.2:5432"))
    facts = with_plan(calm, upstream=upstream, settings=Settings(max_db_connections=3))
    assert said(facts) == [
        (
            "blocked",
            "max_db_connections 3 is too few for read-only pools of 1 units: 4 are needed",
        )
    ]
    enough = with_plan(facts, settings=Settings(max_db_connections=4))
    assert said(enough) == [("active", "")]


# ---- PostgreSQL ------------------------------------------------------------------------------
SETTING_UP = ("blocked", "backend-database: setting up users in PostgreSQL")


def test_the_reason_why_postgresql_cannot_be_used_is_told(calm):
    problem = "backend-database: PostgreSQL gives no superuser"
    backend = but(calm.backend, problem=problem)
    unready = but(calm, auth=None)
    assert said(but(calm, backend=backend)) == [("active", "")]
    assert said(but(unready, backend=backend)) == [("blocked", problem)]
    assert said(unready) == [SETTING_UP]
    silent = but(calm.backend, credentials=None)
    assert said(but(unready, backend=silent)) == [SETTING_UP]


def test_a_problem_of_postgresql_takes_the_place_of_the_setup(calm):
    for topic, texts in (
        ("database", [("waiting", "PostgreSQL is silent")]),
        ("service", [SETTING_UP, ("waiting", "PostgreSQL is silent")]),
    ):
        problem = Problem(topic=topic, level=Level.WAITING, text="PostgreSQL is silent")
        ledger = but(calm.ledger, problems=(problem,))
        assert said(but(calm, auth=None, ledger=ledger)) == texts


# ---- TLS -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("related_", "kept", "expected"),
    [
        (
            False,
            PAIR,
            (
                "active",
                "option client_tls_sslmode is require and there is no relation certificates: the"
                " certificate is served until it expires",
            ),
        ),
        (
            False,
            None,
            (
                "blocked",
                "option client_tls_sslmode is require and there is no relation certificates: no"
                " client can log in over the network",
            ),
        ),
        (
            True,
            None,
            (
                "waiting",
                "waiting for a certificate: option client_tls_sslmode is require, so no client can"
                " log in over the network",
            ),
        ),
    ],
)
def test_tls_that_is_required_and_missing_is_told(calm, related_, kept, expected):
    facts = with_plan(calm, settings=Settings(client_tls_sslmode="require"))
    facts = but(facts, certificates=but(facts.certificates, related=related_, kept=kept))
    assert expected in said(facts)
    without = with_plan(facts, settings=Settings(client_tls_sslmode="prefer"))
    assert expected not in said(without)


# ---- clients and orders ----------------------------------------------------------------------
def test_clients_of_deprecated_relations_are_named(calm):
    request = AccessRequest(relation_id=8, application="old", database="shop", endpoint="db-admin")
    facts = but(calm, legacy=(LegacyClient(request=request),))
    assert said(facts) == [
        (
            "active",
            "old (relation 8) uses db-admin, which is deprecated: relate it to database if it can",
        )
    ]


HOLDER = Holder(
    unit="pgbouncer/0", process=1, database="shop", user="relation_id_1",
    address="10.0.0.9:40000", since=86400,
)  # fmt: skip
HELD = (
    "the pause of {} is not complete: client 10.0.0.9:40000 (user relation_id_1, database shop)"
    " keeps a server connection of process 1 of pgbouncer/0; its last request began 30 s ago"
)
PAUSED = (
    "{} paused since 1970-01-02 {} UTC: transactions wait, run `juju run pool/leader resume`"
    " to end the pause"
)


@pytest.mark.usefixtures("machine_in_tokyo")
@pytest.mark.parametrize(
    ("pauses", "names", "since"),
    [
        ((Pause(database=ALL, since=86400),), "all databases", "00:00"),
        # A pause of a single database may stay beside a later pause of all databases.
        (
            (Pause(database="shop", since=86400), Pause(database=ALL, since=133_500)),
            "all databases",
            "13:05",
        ),
        (
            (Pause(database="shop", since=133_500), Pause(database="blog", since=90_000)),
            "databases blog, shop",
            "01:00",
        ),
    ],
)
def test_a_pause_is_told_with_its_beginning_and_what_holds_it_up(calm, pauses, names, since):
    facts = but(with_plan(calm, paused=pauses), configure_command="juju config pool")
    assert said(facts) == [("active", PAUSED.format(names, since))]
    held = but(facts, operations=Operations(holder=HOLDER), now=86430.9)
    assert said(held) == [("waiting", HELD.format(names))]


def test_disabled_databases_are_told_with_the_command_for_the_first(calm):
    facts = but(with_plan(calm, disabled=("blog", "shop")), configure_command="juju config pool")
    assert said(facts) == [
        (
            "active",
            "clients cannot log in to databases blog, shop: run"
            " `juju run pool/leader enable database=blog` to let them",
        )
    ]


def test_the_next_auth_user_is_named_while_postgresql_refuses_it(calm):
    following = Login(username="next_auth_user", password=pydantic.SecretStr("p9"))
    facts = but(calm, auth=but(calm.auth, next_auth=following))
    user = facts.plan.upstream.auth_user
    follows = but(facts.serving, credentials=facts.auth.generation, auth_user=user)
    facts = but(facts, serving=follows)
    assert said(facts) == [
        (
            "active",
            "PgBouncer's own users get new passwords: waiting until PostgreSQL lets in"
            " next_auth_user",
        )
    ]
    assert said(but(facts, leader=False)) == [("active", "")]
