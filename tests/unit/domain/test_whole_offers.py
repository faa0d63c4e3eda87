"""The whole offer for a client."""

import pytest
from in_memory import related
from samples import but

from domain import planning
from domain.endpoints import endpoints_in
from domain.facts import Client, Peer
from domain.plan import Member, Serving
from domain.users import AccessRequest, Offer, grant_for

ROOT = "-----BEGIN CERTIFICATE-----\ncm9vdA==\n-----END CERTIFICATE-----"


@pytest.fixture(scope="module")
def calm():
    return related(units=1).leader.read()


def request(number, database="shop", **changes):
    return AccessRequest(relation_id=number, application="shop-app", database=database, **changes)


def offering(calm, asked, *, readers="10.1.0.9:5432", grants=None, databases=("shop",)):
    upstream = but(calm.plan.upstream, read_only=endpoints_in(readers), version="16.7")
    members = (
        Member(name="pgbouncer/0", address="10.0.0.1", share=60),
        Member(name="pgbouncer/1", address="10.0.0.2", share=40),
        Member(name="pgbouncer/2", address="10.0.0.3", share=0),
    )
    served = tuple(f"{name}{end}" for name in databases for end in ("", "_readonly"))
    serving = Serving(port=6432, databases=served)
    return but(
        calm,
        plan=but(calm.plan, upstream=upstream, members=members, databases=databases, revision=0),
        serving=but(serving, revision=0),
        peers=tuple(
            Peer(name=f"pgbouncer/{number}", serving=but(serving, revision=0)) for number in (1, 2)
        ),
        ledger=but(calm.ledger, grants=(grant_for(asked),) if grants is None else grants),
    )


ENDPOINTS = "10.0.0.1:6432,10.0.0.2:6432"
OFFERED = Offer(
    database="shop",
    endpoints=ENDPOINTS,
    read_only_endpoints=ENDPOINTS,
    read_only_alias="shop_readonly",
    version="16.7",
)
WITHOUT_READERS = but(OFFERED, read_only_endpoints="", read_only_alias="")


def test_a_client_is_offered_every_unit_with_connections(calm):
    asked = request(1)
    facts = offering(calm, asked)
    assert planning.offer(facts, asked) == OFFERED
    assert planning.offer(offering(calm, asked, readers=""), asked) == WITHOUT_READERS
    unready = but(facts, serving=but(facts.serving, databases=("shop",)))
    assert planning.offer(unready, asked) == WITHOUT_READERS
    assert planning.offer(but(facts, serving=None), asked) is None
    assert planning.offer(offering(calm, asked, grants=()), asked) is None
    told = but(facts, plan=but(facts.plan, tls=True, client_authorities=(ROOT,)))
    assert planning.offer(told, asked) == but(OFFERED, tls=True, tls_ca=f"{ROOT}\n")
    old = request(1, endpoint="db")
    assert planning.offer(told, old) == OFFERED


def test_a_client_whose_new_request_waits_keeps_the_offer_of_its_grant(calm):
    before, now = request(1), request(1, "blog")
    facts = offering(calm, before, databases=("blog", "shop"))
    published = Client(request=now, published=Offer(database="shop", endpoints="pool:1"))
    assert planning.offer_to(facts, published) == OFFERED
    assert planning.offer_to(facts, Client(request=now)) is None
    other = Client(request=request(2), published=published.published)
    assert planning.offer_to(facts, other) is None
    granted = offering(calm, now, databases=("blog", "shop"))
    assert planning.offer_to(granted, Client(request=now)) == but(
        OFFERED, database="blog", read_only_alias="blog_readonly"
    )


def test_a_request_is_granted_when_its_grant_is_recorded(calm):
    facts = offering(calm, request(1))
    assert planning.is_granted(facts, request(1)) is True
    assert planning.is_granted(facts, request(1, kept=True)) is False
    assert planning.is_granted(facts, request(1, "blog")) is False
    assert planning.is_granted(facts, request(2)) is False
