"""Does something speak PostgreSQL's protocol there?"""

import contextlib
import socket
import threading
import time

import pytest

from adapters.connections import ping


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


@contextlib.contextmanager
def unix_server(path, answer):
    """A process that answers at a Unix socket; None is a process that hangs."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)

        def serve():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                connection.recv(8)
                connection.sendall(answer)
                connection.close()

        if answer is not None:
            threading.Thread(target=serve, daemon=True).start()
        yield str(path)


def test_of_several_sockets_only_those_that_answer_are_not_silent(tmp_path):
    with (
        unix_server(tmp_path / "a", b"N") as well,
        unix_server(tmp_path / "b", b"x") as other,
        unix_server(tmp_path / "c", b"") as closes,
        unix_server(tmp_path / "d", None) as hangs,
    ):
        sockets = dict(enumerate([well, other, closes, hangs, str(tmp_path / "none")]))
        assert ping.silent(sockets, 0.3) == {1, 2, 3, 4}


def test_silent_sockets_take_no_longer_than_was_given_for_all(tmp_path):
    with unix_server(tmp_path / "a", None) as path, contextlib.ExitStack() as clients:
        # Until the kernel keeps no more connections that the process has not accepted.
        for _ in range(3):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(path)
        begin = time.monotonic()
        assert ping.silent(dict.fromkeys(range(20), path), 0.3) == set(range(20))
        assert time.monotonic() - begin < 1


def test_nothing_to_ask_is_nothing_silent():
    assert ping.silent({}) == frozenset()
