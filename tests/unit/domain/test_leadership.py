"""When a unit writes for the application, and what every unit has to serve before a client is told."""

import pydantic
import pytest
from configurations import LAYOUT
from plans import plan
from samples import AUTH, but

from domain.backend import BackendRelation
from domain.certificate_logins import CertificateLogin
from domain.facts import Client, Facts, Peer
from domain.leadership import (
    admitted_everywhere,
    may_write_for_app,
    misses_something,
    must_clean_backend,
    reported,
    serving_everywhere,
)
from domain.ledger import Ledger
from domain.plan import Serving
from domain.reference import Reference
from domain.settings import Settings
from domain.tls import ServedPair, UnitCertificates
from domain.users import AccessRequest, Grant

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nbGVhZg==\n-----END CERTIFICATE-----"
ANN = CertificateLogin(username="relation_id_1", name="ann", certificate=CERTIFICATE)
PLAN = plan(3, databases=("shop",), revision=4, certificate_logins=(ANN,))
SERVING = Serving(
    port=6432, databases=("shop",), certificate_users=("relation_id_1",), revision=4
)  # fmt: skip
GRANT = Grant(relation_id=1, username="relation_id_1", database="shop")
CLIENT = Client(request=AccessRequest(relation_id=1, application="a", database="shop"))


def facts(**changes):
    known = {
        "unit": "pgb/0", "address": "10.0.0.0", "leader": True, "settings": Settings(),
        "layout": LAYOUT, "plan": PLAN, "auth": AUTH, "serving": SERVING, "clients": (CLIENT,),
        "backend": BackendRelation(related=True, present=True),
        "ledger": Ledger(provisioned_for="boss", grants=(GRANT,)),
        "peers": (Peer(name="pgb/1", serving=SERVING), Peer(name="pgb/2", serving=SERVING)),
    }  # fmt: skip
    return Facts(**known | changes)


def with_peers(first, second=SERVING, *, leaving=False):
    return {
        "peers": (
            Peer(name="pgb/1", serving=first, leaving=leaving),
            Peer(name="pgb/2", serving=second),
        )
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"leader": False}, False),
        ({"leaving": True}, False),
        ({"unreadable": ("plan",)}, False),
        ({"reference": Reference(units=("pgb/2",))}, False),
        ({"reference": Reference()}, True),
    ],
)
def test_a_leader_writes_for_the_application_unless_its_view_is_partial(changes, expected):
    assert may_write_for_app(facts(**changes)) is expected


KEPT = ServedPair(key=pydantic.SecretStr("key"), chain=(CERTIFICATE,))
NO_SERVER = BackendRelation(related=True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"plan": None}, False),
        ({"peers": (Peer(name="pgb/1"),)}, True),
        ({"clients": ()}, True),
        ({"backend": NO_SERVER}, True),
        ({"backend": NO_SERVER, "auth": None}, True),
        ({"backend": NO_SERVER, "ledger": Ledger(grants=(GRANT,))}, True),
        ({"backend": NO_SERVER, "auth": None, "ledger": Ledger(grants=(GRANT,))}, False),
        ({"certificates": UnitCertificates(kept=KEPT)}, True),
        ({"certificates": UnitCertificates(kept=KEPT, related=True)}, False),
        ({"certificates": UnitCertificates(related=True)}, False),
    ],
)
def test_a_leader_that_sees_less_than_is_recorded_misses_something(changes, expected):
    assert misses_something(facts(**changes)) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"backend": BackendRelation()}, True),
        ({"backend": BackendRelation(), "leader": False}, False),
        ({"backend": BackendRelation(), "unreadable": ("ledger",)}, False),
        ({"backend": BackendRelation(), "leaving": True}, False),
        ({"leaving": True, "last_unit": True}, True),
        ({"last_unit": True}, False),
    ],
)
def test_the_last_leader_with_or_without_postgresql_cleans_up(changes, expected):
    assert must_clean_backend(facts(**changes)) is expected


OTHER_PORT = but(SERVING, port=7000)
OTHERS = but(SERVING, databases=("blog",), certificate_users=("relation_id_2",))


@pytest.mark.parametrize(
    ("changes", "serves", "admits"),
    [
        ({}, True, True),
        ({"plan": None}, False, True),
        ({"serving": None}, False, False),
        (with_peers(None), False, False),
        (with_peers(None, leaving=True), True, True),
        (with_peers(OTHERS), False, False),
        (with_peers(OTHER_PORT), False, True),
        (with_peers(but(SERVING, revision=3)), False, False),
        (with_peers(but(SERVING, revision=None)), True, True),
        ({"plan": but(PLAN, certificate_logins=())} | with_peers(OTHERS), False, True),
        # A unit without connections serves no client.
        (
            {"plan": but(PLAN, members=(PLAN.members[0], but(PLAN.members[1], share=0), PLAN.members[2]))}
            | with_peers(None),
            True,
            True,
        ),
        ({"plan": but(PLAN, members=())}, False, True),
    ],
)  # fmt: skip
def test_a_client_is_served_when_every_unit_that_stays_serves_it(changes, serves, admits):
    known = facts(**changes)
    assert serving_everywhere(known, "shop") is serves
    assert admitted_everywhere(known, "relation_id_1") is admits
    assert admitted_everywhere(known, "relation_id_9")


def test_reports_of_another_plan_count_as_no_reports():
    old = but(SERVING, revision=3)
    known = facts(**with_peers(old, OTHER_PORT))
    assert reported(known) == {"pgb/0": SERVING, "pgb/1": None, "pgb/2": OTHER_PORT}
    assert reported(but(known, plan=None)) == {
        "pgb/0": SERVING, "pgb/1": old, "pgb/2": OTHER_PORT,
    }  # fmt: skip
    leaving = facts(**with_peers(SERVING, None, leaving=True))
    assert reported(leaving) == {"pgb/0": SERVING, "pgb/2": None}
