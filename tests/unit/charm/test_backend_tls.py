"""What the charm of PostgreSQL tells of its certificates, under real ops."""

import pytest
from on_juju import TOLD
from ops import testing

from authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authorities") / "first")


@pytest.fixture(scope="module")
def root(authority):
    return authority.root.read_text()


@pytest.fixture(scope="module")
def leaf(authority):
    return authority.issue("postgresql", "127.0.0.1").certificate.read_text()


def serves(juju, root):
    juju.server.authority = root.strip()


@pytest.mark.parametrize("tls", ["True", "true", "TRUE"])
def test_a_told_authority_verifies_postgresql(deployed, root, leaf, tls):
    serves(deployed, root)
    deployed.backend({**TOLD, "tls": tls, "tls-ca": leaf + root})
    assert deployed.status == "active"
    assert deployed.setting("server_tls_sslmode") == "verify-full"
    assert "/tls/server-ca-" in deployed.setting("server_tls_ca_file")


def test_a_told_secret_verifies_postgresql(deployed, root):
    serves(deployed, root)
    secret = testing.Secret({"tls": "True", "tls-ca": root})
    deployed.change(secrets={*deployed.state.secrets, secret})
    deployed.backend({**TOLD, "secret-tls": secret.id})
    assert deployed.status == "active"
    assert deployed.setting("server_tls_sslmode") == "verify-full"


@pytest.mark.parametrize("tls", ["False", "false", ""])
def test_a_server_without_tls_is_used_as_before(deployed, tls):
    deployed.backend({**TOLD, "tls": tls, "tls-ca": "None"})
    assert deployed.status == "active"
    assert deployed.setting("server_tls_sslmode") == "prefer"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"tls": "maybe"}, "tls is neither True nor False"),
        ({"tls-ca": "nonsense"}, "tls-ca: there is a text that is no certificate in PEM"),
        ({"tls-ca": "x" * 10**6}, ""),
        (
            {"tls-ca": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"},
            "tls-ca: a certificate in it cannot be read",
        ),
    ],
)
def test_a_hostile_text_is_named_and_nothing_is_used(deployed, told, sentence):
    deployed.backend({**TOLD, "tls": "True", **told})
    assert deployed.status.startswith("blocked backend-database: ")
    assert sentence in deployed.status
    assert deployed.server.roles == {}
