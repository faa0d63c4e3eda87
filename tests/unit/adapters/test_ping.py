"""Does something speak PostgreSQL's protocol there?"""

import contextlib
import socket
import threading
import time

import pytest

from adapters import ping


@contextlib.contextmanager
def server(answer):
    """Something that listens, and answers the first eight bytes like this; None is silence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    connection.settimeout(5)
                    if connection.recv(8) == bytes.fromhex("0000000804d2162f") and answer:
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()
        for connection in kept:
            connection.close()


@pytest.mark.parametrize(
    ("answer", "speaks"), [(b"S", True), (b"N", True), (b"E", True), (b"H", False)]
)
def test_one_byte_tells(answer, speaks):
    with server(answer) as address:
        assert ping.answers([address]) is speaks


def test_one_of_several_is_enough():
    with server(b"N") as address:
        assert ping.answers([("127.0.0.1", 1), address])


def test_nobody_there_is_no_answer():
    assert not ping.answers([])
    assert not ping.answers([("127.0.0.1", 1), ("host.invalid", 5432)])


def test_silence_takes_no_longer_than_was_given_for_all():
    with server(None) as address:
        begin = time.monotonic()
        assert not ping.answers([address] * 5, seconds=0.2)
        assert time.monotonic() - begin < 1
