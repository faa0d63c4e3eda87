"""Certificates of authorities, told from others by OpenSSL, and handshakes with a server."""

import socket
import ssl
import threading

import pytest

from adapters.connections.authorities import authorities
from adapters.connections.handshake import NO_TLS, refusals
from adapters.connections.memory_files import path_of
from authority import Authority
from domain.tls import certificates_in


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authorities") / "vault", intermediate=True)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authorities") / "other", "other root")


@pytest.fixture(scope="module")
def issued(vault):
    return vault.issue("postgresql", "127.0.0.1")


def test_the_certificate_of_the_server_is_left_out(vault, issued):
    root = vault.root.read_text()
    told = certificates_in(issued.certificate.read_text() + root)
    found = authorities(told)
    assert found.certificates == certificates_in(vault.chain + root)
    assert found.rooted


def test_of_the_authorities_given_only_those_above_the_server_count(vault, other):
    told, root = certificates_in(vault.chain), certificates_in(vault.root.read_text())
    assert authorities(told) == (told, False)
    assert authorities(told, certificates_in(other.root.read_text())) == (told, False)
    given = certificates_in(other.root.read_text() + vault.root.read_text())
    assert authorities(told, given) == (told + root, True)
    assert authorities((), given) == ((), False)


def test_what_is_no_certificate_is_refused():
    text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    with pytest.raises(ValueError, match="cannot be read"):
        authorities(certificates_in(text))


class Server:
    """Answers an SSLRequest, and then serves TLS if it has a certificate."""

    def __init__(self, issued=None, answer=b"S"):
        self._answer, self._context = answer, None
        if issued:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(issued.certificate, issued.key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = ("127.0.0.1", self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        client, _ = self._listener.accept()
        with client:
            client.recv(8)
            client.sendall(self._answer)
            if self._answer == b"S" and not self._context:
                # Read the ClientHello first: bytes that are not read make the kernel send a reset.
                client.recv(65536)
                client.sendall(b"this is not TLS")
            elif self._context:
                try:
                    self._context.wrap_socket(client, server_side=True).recv(1)
                except OSError:
                    return


def reason(server, text, *, names=True):
    return refusals([server.place], text, 2.0, names=names).get(server.place)


def test_a_server_is_verified_by_authority_and_name(vault, other, issued):
    chain = vault.chain + vault.root.read_text()
    assert reason(Server(issued), chain) is None
    assert "local issuer" in reason(Server(issued), other.root.read_text())
    assert "issuer" in reason(Server(issued), vault.chain), "the root is missing"
    elsewhere = vault.issue("elsewhere", "db.example")
    assert "IP address mismatch" in reason(Server(elsewhere), chain)
    assert reason(Server(elsewhere), chain, names=False) is None


def test_a_server_without_tls_or_without_an_answer_is_told_apart(vault):
    root = vault.root.read_text()
    assert reason(Server(answer=b"N"), root) == NO_TLS
    assert reason(Server(answer=b""), root) == ""
    assert "TLS handshake fails" in reason(Server(answer=b"S"), root)
    assert refusals([("127.0.0.1", 1), ("no host", 0)], root, 1.0, names=True) == {
        ("127.0.0.1", 1): "",
        ("no host", 0): "",
    }


def test_a_text_is_readable_as_a_file_and_shared_by_its_content():
    with open(path_of("a text")) as file:
        assert file.read() == "a text"
    assert path_of("a text") == path_of("a text") != path_of("another")
