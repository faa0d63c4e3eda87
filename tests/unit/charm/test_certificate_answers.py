"""What an authority answers: errors, and texts that may be anything."""

import pytest
from signing import HOSTS, Provider, Signer, fits, kept


@pytest.fixture
def provider(related):
    return Provider(related)


def test_a7_a_request_that_is_denied_for_its_addresses_is_made_without_them(provider):
    juju = provider.juju
    juju.options(**{"tls-extra-sans": "192.0.2.7 pool.example.com"})
    provider.denies(101)
    assert provider.asked == (sorted([*HOSTS, "pool.example.com"]), [])
    provider.issues()
    assert fits(juju)
    assert juju.status == (
        "active certificates: vault signs no IP addresses, so clients cannot verify units at"
        " 192.0.2.7: put a host name that leads there into tls-extra-sans"
    )
    requested = provider.request
    juju.emit(juju.context.on.update_status())
    assert provider.request == requested


def test_a7_an_authority_that_says_so_is_asked_for_no_addresses(related):
    related.options(**{"tls-extra-sans": "192.0.2.7"})
    provider = Provider(related)
    provider.writes(capabilities={"supports_ip_sans": False})
    assert provider.asked == (HOSTS, [])
    provider.writes(capabilities={"supports_ip_sans": True})
    assert provider.asked == (HOSTS, ["192.0.2.7"])


def test_another_authority_is_asked_for_addresses_again(provider):
    provider.juju.options(**{"tls-extra-sans": "192.0.2.7"})
    provider.denies(101)
    provider.issues()
    provider.goes()
    assert Provider(provider.juju, number=6).asked == (HOSTS, ["192.0.2.7"])


@pytest.mark.parametrize("code", [101, 102, 201, 999])
def test_a_request_that_is_refused_is_a_sentence_and_takes_nothing_away(provider, code):
    provider.issues()
    before = kept(provider.juju)
    provider.denies(code, "the domain is not allowed")
    assert kept(provider.juju) == before
    assert provider.juju.status == (
        f"blocked certificates: vault refuses the request with error {code}: the domain is not"
        " allowed"
    )


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "fields",
    [
        {"certificates": "no JSON"},
        {"certificates": DEEP},
        {"certificates": '{"a": 1}'},
        {"certificates": '"text"'},
        {"certificates": "[" + "1," * 1000 + "1]"},
        {"certificates": "x" * 8_000_001},
        {"request_errors": DEEP},
        {"request_errors": "7"},
        {"capabilities": "]"},
        {"capabilities": '["supports_ip_sans"]'},
        {"capabilities": '{"supports_ip_sans": "no"}'},
        {"other": "\ud800"},
    ],
    ids=lambda fields: "-".join(f"{key} {text[:12]}" for key, text in fields.items()),
)
def test_a_hostile_databag_takes_nothing_away_and_fails_no_hook(provider, fields):
    provider.issues()
    before = kept(provider.juju)
    provider.writes_text(**fields)
    assert kept(provider.juju) == before
    assert len(provider.juju.status) < 1500


SIGNER = Signer()


@pytest.mark.parametrize(
    "change",
    [
        {"certificate": 7},
        {"certificate": ""},
        {"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"},
        {"certificate": SIGNER.root + "\nls -l"},
        {"certificate": "x" * 900_000},
        {"ca": ["text"]},
        {"ca": None, "chain": None},
        {"chain": {"a": 1}},
        {"chain": [[]]},
        {"chain": ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]},
        {"chain": [SIGNER.root.replace("M", "N")]},
        {"revoked": "perhaps", "certificate": None},
    ],
    # Each run makes another authority, and the names of tests have to stay.
    ids=[
        "number",
        "nothing",
        "no-certificate",
        "more-text",
        "long",
        "list-in-ca",
        "no-ca",
        "object-in-chain",
        "lists-in-chain",
        "no-certificate-in-chain",
        "broken-chain",
        "revoked",
    ],
)
def test_a_hostile_certificate_takes_nothing_away_and_fails_no_hook(provider, change):
    provider.issues()
    before = kept(provider.juju)
    entry = provider.signer.entry(provider.request) | change
    provider.writes(certificates=[entry])
    assert kept(provider.juju) == before
    assert provider.juju.status.startswith("blocked certificates: what vault issued is not used: ")
    assert len(provider.juju.status) < 1500


def test_what_is_wrong_in_the_entry_of_another_unit_does_not_matter(provider):
    entry = provider.signer.entry(provider.request)
    others = [{"certificate_signing_request": text, "certificate": 7} for text in ("", "x", 7)]
    provider.writes(certificates=[*others, 7, None, entry], request_errors=[{"csr": "x"}])
    assert fits(provider.juju)


@pytest.mark.parametrize(
    "error", [None, 7, {}, {"code": "x"}, {"code": -1, "message": "\x00\x1b[2J"}]
)
def test_a_hostile_error_is_a_sentence(provider, error):
    provider.writes(request_errors=[{"csr": provider.request, "error": error}])
    assert provider.juju.status.startswith(
        "blocked certificates: vault refuses the request with error 999: "
    )
    assert provider.juju.status.isprintable()
