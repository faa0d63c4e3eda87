"""A plan has a new revision when units serve something by it that they may not serve by the plan before."""

import pytest
from plans import plan

from domain.certificate_logins import CertificateLogin
from domain.plan import Serving

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
LOGIN = CertificateLogin(username="relation_id_1", name="shop", certificate=PEM)


def with_settings(**settings):
    known = plan()
    return known.model_copy(update={"settings": known.settings.model_copy(update=settings)})


def of_another_relation():
    known = plan(databases=("shop",))
    upstream = known.upstream.model_copy(update={"auth_user": "auth_2"})
    return known.model_copy(update={"upstream": upstream})


@pytest.mark.parametrize(
    "after",
    [
        plan(databases=("blog",)),
        plan(readers="10.1.0.2:5432"),
        plan(limit=102),
        plan(units=1),
        of_another_relation(),
        with_settings(listen_port=7000),
        with_settings(max_db_connections=0),
        with_settings(client_tls_sslmode="require"),
        plan().model_copy(update={"certificate_logins": (LOGIN,)}),
    ],
)
def test_what_units_have_to_serve_anew_is_a_new_revision(after):
    before = plan(databases=("shop",)).model_copy(update={"revision": 3})
    assert after.after(before).revision == 4


@pytest.mark.parametrize(
    "after",
    [
        plan(databases=("shop",)),
        plan(),
        plan().without_upstream(),
        plan(databases=("shop",), endpoints="10.1.0.9:5432"),
        plan(databases=("shop",)).killing(plan().kills),
    ],
)
def test_what_units_serve_already_is_no_new_revision(after):
    before = plan(databases=("shop",), readers="10.1.0.2:5432")
    assert after.after(before.model_copy(update={"revision": 3})).revision == 3


def test_a_server_that_comes_back_is_a_new_revision():
    without = plan().without_upstream()
    assert plan().after(without).revision == 1
    assert without.after(without).revision == 0


def test_a_report_of_an_older_release_counts_for_every_revision():
    now = plan().model_copy(update={"revision": 3})
    assert Serving(port=6432).is_of(now)
    assert Serving(port=6432, revision=3).is_of(now)
    assert not Serving(port=6432, revision=2).is_of(now)


@pytest.mark.parametrize(
    ("readers", "place", "replica"),
    [
        ("", 0, ""),
        ("", 3, ""),
        ("10.1.0.3:5432", 2, "10.1.0.3:5432"),
        ("10.1.0.3:5432,10.1.0.4:5432", 0, "10.1.0.3:5432"),
        ("10.1.0.3:5432,10.1.0.4:5432", 3, "10.1.0.4:5432"),
    ],
)
def test_a_pool_of_a_single_host_has_the_first_server_and_a_replica(readers, place, replica):
    many = plan(databases=("shop",), endpoints="10.1.0.1:5432,10.1.0.2:5432", readers=readers)
    alone = plan(databases=("shop",), endpoints="10.1.0.1:5432", readers=replica)
    assert many.with_single_hosts(place) == alone


def test_without_a_server_there_is_no_host_to_choose():
    without = plan().without_upstream()
    assert without.with_single_hosts(1) == without
