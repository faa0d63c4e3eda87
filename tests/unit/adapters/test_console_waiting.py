"""However many processes hang, a hook waits for two seconds."""

import contextlib
import socket
import time

import pydantic
import pytest

from adapters.connections.waiting import WaitingBudget
from adapters.pgbouncer.console import PsycopgConsoles
from app.errors import ConsoleFailed
from domain.users import Login

ADMIN = Login(username="admin", password=pydantic.SecretStr("x"))


def test_sixteen_processes_that_hang_take_no_longer_than_a_hook_may_wait(tmp_path):
    waiting = WaitingBudget()
    consoles = PsycopgConsoles(lambda index: str(tmp_path / str(index)), waiting)
    with contextlib.ExitStack() as listeners:
        for index in range(16):
            (tmp_path / str(index)).mkdir()
            listener = listeners.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(tmp_path / str(index) / ".s.PGSQL.6432"))
            listener.listen()
        begin = time.monotonic()
        for index in range(16):
            with (
                pytest.raises(ConsoleFailed, match=f"process {index} does not answer"),
                consoles.login(index, 6432, ADMIN),
            ):
                pass
        assert time.monotonic() - begin < 3
    assert waiting.left() == 0.0
