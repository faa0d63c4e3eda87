"""A unit requests, keeps and removes its certificate, on a platform in memory."""

import pydantic
import pytest
from in_memory import deployed, worst

from app.errors import CertificatesFailed
from app.hooks.private_key import SetPrivateKey
from app.intents.obtain_certificate import ObtainCertificate
from app.outcome import AskAgain, Done
from domain.problems import Level
from domain.tls import CertificateNames, ServedPair, UnitCertificates


def pem(letters):
    return f"-----BEGIN CERTIFICATE-----\n{letters}\n-----END CERTIFICATE-----"


OLD, NEW = pem("b2xk"), pem("bmV3")


def pair(root=OLD, key="key"):
    return ServedPair(key=pydantic.SecretStr(key), chain=(pem("bGVhZg=="),), authorities=(root,))


@pytest.fixture
def platform():
    return deployed(service_host="pool")


def record(platform, number=0):
    return platform.model.units[f"pgbouncer/{number}"]


def knows(platform, number=0, **known):
    record(platform, number).certificates = UnitCertificates(
        **{"related": True, "hosts": ("pool",), "authority": "vault"} | known
    )


def told(platform, *authorities):
    plan = platform.model.plan
    platform.model.plan = plan.model_copy(update={"tls": True, "client_authorities": authorities})


def test_every_unit_requests_a_certificate_and_keeps_the_answer(platform):
    for number in range(2):
        knows(platform, number)
        unit = platform.units[f"pgbouncer/{number}"]
        unit.certificates_changed()
        assert record(platform, number).certificates.requested == CertificateNames(
            common="pool", hosts=("pool",)
        )
        known = record(platform, number).certificates
        record(platform, number).certificates = known.model_copy(update={"issued": pair()})
        unit.certificates_changed()
        assert record(platform, number).certificates.kept == pair()
        assert record(platform, number).certificates.issued is None


def test_a_unit_without_an_authority_does_nothing(platform):
    knows(platform, related=False)
    before = platform.model.model_copy(deep=True)
    platform.leader.certificates_changed()
    assert platform.model == before


def test_a_unit_that_is_being_removed_keeps_what_it_has(platform):
    knows(platform, 1, related=False, kept=pair())
    record(platform, 1).leaving = True
    platform.followers[0].certificates_changed()
    platform.followers[0].peers_changed()
    assert record(platform, 1).certificates.kept == pair()


def test_a_leader_that_waits_for_its_own_announcement_asks_again(platform):
    told(platform, OLD)
    names = CertificateNames(common="pool", hosts=("pool",))
    knows(platform, kept=pair(), issued=pair(NEW), requested=names)
    outcome = ObtainCertificate(platform.leader.ports.certificates)(platform.leader.read())
    assert isinstance(outcome, AskAgain)
    assert outcome.reason == "waiting until clients know the new authority"
    knows(platform, 1, kept=pair(), issued=pair(NEW), requested=names)
    follower = platform.followers[0]
    outcome = ObtainCertificate(follower.ports.certificates)(follower.read())
    assert isinstance(outcome, Done)
    assert record(platform, 1).certificates.kept == pair()
    told(platform, OLD, NEW)
    follower.peers_changed()
    assert record(platform, 1).certificates.kept == pair(NEW)


def test_a_pair_goes_after_its_authority(platform):
    knows(platform, 1, related=False, kept=pair())
    told(platform, OLD)
    follower = platform.followers[0]
    follower.certificates_changed()
    assert record(platform, 1).certificates.kept == pair()
    platform.model.plan = platform.model.plan.model_copy(update={"tls": False})
    follower.certificates_changed()
    assert record(platform, 1).certificates.kept is None


class Refusing:
    """A port that fails at every call."""

    def __getattr__(self, name):
        def fail(*_):
            raise CertificatesFailed("certificates: the relation is gone: the next hook decides")

        return fail


def test_a_failure_of_the_port_is_a_sentence_and_changes_nothing(platform):
    knows(platform, 1)
    before = platform.followers[0].read()
    facts, problems, *_ = ObtainCertificate(Refusing())(before)
    assert facts == before
    assert [(problem.topic, problem.level, problem.text) for problem in problems] == [
        (
            "certificates",
            Level.WAITING,
            "certificates: the relation is gone: the next hook decides",
        )
    ]


def test_the_action_requests_a_certificate_and_keeps_the_pair(platform):
    knows(platform, kept=pair(), requested=CertificateNames(common="old"))
    platform.leader.set_private_key(pydantic.SecretStr("key"))
    known = record(platform).certificates
    assert known.kept == pair()
    assert known.unanswered
    assert known.requested.common == "pool"


class KeptKey:
    """The port `Certificates`, which keeps the key of the last request."""

    def rotate(self, names, key):
        self.names, self.key = names, key


@pytest.mark.parametrize("key", [pydantic.SecretStr("key"), None])
def test_the_certificate_is_requested_for_the_key_of_the_operator(platform, key):
    knows(platform)
    kept = KeptKey()
    SetPrivateKey(platform.leader.ports.facts, kept)(key)
    assert (kept.names.common, kept.key) == ("pool", key)


def test_the_action_says_what_is_missing(platform):
    unrelated = "there is no authority to ask for a certificate: relate certificates first"
    with pytest.raises(CertificatesFailed, match=f"^{unrelated}$"):
        platform.leader.set_private_key(None)
    knows(platform)
    platform.model.plan = None
    early = "the leader has not shared its configuration yet: try later"
    with pytest.raises(CertificatesFailed, match=f"^{early}$"):
        platform.leader.set_private_key(None)


def test_the_status_has_the_sentences_of_the_certificate(platform):
    knows(platform)
    platform.leader.certificates_changed()
    assert "missing relation" in worst(platform.leader).text
    platform.backend()
    assert worst(platform.leader).text == (
        "certificates: waiting for vault to issue a certificate"
    )


def test_a_leader_without_its_authority_asks_whether_it_is_being_removed(platform):
    knows(platform, related=False, kept=pair())
    record(platform).dying = True
    assert platform.leader.read().leaving
    platform.leader.certificates_changed()
    assert record(platform).certificates.kept == pair()
