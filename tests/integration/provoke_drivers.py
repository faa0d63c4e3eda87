"""Provoke the errors of drivers: those that break the protocol, and what libpq says by itself."""

from __future__ import annotations

import struct

import psycopg
from erring import DATABASE, USER, Erring, Said
from ports import free_port
from provoking import provokes

from attacks.packets import SSL_REQUEST, VERSION_3, message, startup
from logins import CLIENT_PASSWORD

GSS_REQUEST = struct.pack("!ii", 8, 80877104)
LOGIN = startup(user=USER, database=DATABASE)


def sent(unit: Erring, *packets: bytes) -> Said:
    """Return what a client reads that sends these packets first."""
    with unit.connect() as client:
        client.send(*packets)
        return client.hear()


@provokes("old V2 protocol not supported")
def a_driver_of_postgresql_7_3(unit: Erring) -> Said:
    return sent(unit, struct.pack("!ii", 296, 2 << 16) + bytes(288))


@provokes("invalid startup packet layout: expected terminator as last byte")
def a_startup_message_without_its_last_byte(unit: Erring) -> Said:
    body = f"user\0{USER}\0database\0{DATABASE}".encode()
    with unit.connect() as client:
        client.send(struct.pack("!ii", len(body) + 8, VERSION_3) + body)
        # PgBouncer 1.24 waits for the last byte.
        client.socket.settimeout(20 if unit.version >= (1, 25) else 0.5)
        try:
            return client.hear()
        except TimeoutError:
            return Said("", "", "")


@provokes("client re-sent startup pkt")
def a_second_startup_message(unit: Erring) -> Said:
    return sent(unit, LOGIN, LOGIN)


@provokes("client password pkt before startup packet")
def a_password_before_the_startup_message(unit: Erring) -> Said:
    return sent(unit, message(b"p", b"x\0"))


@provokes("client selected an invalid SASL authentication mechanism")
def a_mechanism_that_was_not_offered(unit: Erring) -> Said:
    with unit.connect() as client:
        client.send(LOGIN)
        client.authentication()
        client.send(message(b"p", b"PLAIN\0" + struct.pack("!i", 1) + b"x"))
        return client.hear()


@provokes("received unencrypted data after SSL request")
def a_login_that_does_not_wait_for_tls(unit: Erring) -> Said:
    return sent(unit, SSL_REQUEST + LOGIN)


@provokes("received unencrypted data after GSSAPI encryption request")
def a_login_that_does_not_wait_for_gssapi(unit: Erring) -> Said:
    return sent(unit, GSS_REQUEST + LOGIN)


@provokes("unknown pkt")
def a_message_of_an_unknown_type(unit: Erring) -> Said:
    with unit.client() as client:
        client.send(message(b"!", b""))
        return client.hear()


@provokes("failed to parse packet")
def a_message_that_is_cut_short(unit: Erring) -> Said:
    unit.set(pool_mode="transaction")
    with unit.client() as client:
        client.send(message(b"P", b"abc"))
        return client.hear()


def told(unit: Erring, **login: object) -> Said:
    """Return what libpq says of a login, without the address."""
    own: dict[str, object] = {
        "host": "127.0.0.1", "port": unit.port, "user": USER, "password": CLIENT_PASSWORD,
        "dbname": DATABASE, "connect_timeout": 10,
    }  # fmt: skip
    try:
        psycopg.connect(**(own | login)).close()  # type: ignore[arg-type] # the words of libpq
    except psycopg.OperationalError as error:
        return by_libpq(error)
    raise AssertionError("the login succeeds")


def by_libpq(error: psycopg.Error) -> Said:
    first = str(error).splitlines()[0]
    return Said("", "", first.rpartition("failed: ")[2])


@provokes("Connection refused")
def a_port_on_which_nothing_listens(unit: Erring) -> Said:
    return told(unit, port=free_port())


@provokes("server closed the connection unexpectedly")
def a_process_that_ends(unit: Erring) -> Said:
    login = f"host=127.0.0.1 port={unit.port} user={USER} dbname={DATABASE}"
    with psycopg.connect(login, password=CLIENT_PASSWORD) as client:
        unit.pooler.stop_at_once()
        try:
            client.execute("SELECT 1")
        except psycopg.OperationalError as error:
            return by_libpq(error)
    raise AssertionError("the query succeeds")


@provokes("server does not support SSL, but SSL was required")
def a_unit_without_a_certificate(unit: Erring) -> Said:
    return told(unit, sslmode="require")


@provokes("channel binding required, but SSL not in use")
def channel_binding_without_tls(unit: Erring) -> Said:
    return told(unit, channel_binding="require")


@provokes(
    "channel binding is required, but server did not offer an authentication method that"
    " supports channel binding"
)
def channel_binding_with_tls(unit: Erring) -> Said:
    unit.set(encrypted=True)
    return told(unit, channel_binding="require")


@provokes("SSL error: certificate verify failed")
def a_client_that_trusts_another_authority(unit: Erring) -> Said:
    unit.set(encrypted=True)
    return told(unit, sslmode="verify-full", sslrootcert=str(unit.stranger.certificate))


@provokes('server certificate for "…" … does not match host name "…"')
def a_name_that_the_certificate_lacks(unit: Erring) -> Said:
    unit.set(encrypted=True)
    login = {"host": "localhost", "hostaddr": "127.0.0.1", "sslrootcert": str(unit.root)}
    return told(unit, sslmode="verify-full", **login)


@provokes("SSL error: tlsv1 alert unknown ca")
def a_client_with_a_certificate_of_an_unknown_authority(unit: Erring) -> Said:
    unit.set(encrypted=True)
    return told(unit, sslcert=str(unit.stranger.certificate), sslkey=str(unit.stranger.key))
