"""Run verbs of `pooler` as forks of a process that has imported its modules already.

A new interpreter needs most of a second of processor time for imports, and the tests run a thousand verbs. The
fork runs `python -m pooler` with its own arguments, environment, standard streams and working directory.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pathlib
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

import pydantic

SRC = pathlib.Path(__file__).parents[2] / "src"
PACKAGES = (
    "app",
    "domain",
    "adapters.connections",
    "adapters.local",
    "adapters.pgbouncer",
    "adapters.postgres",
    "pooler",
    "pooler.verbs",
    "pooler.views",
)
STREAMS = 3
STATUS = struct.Struct("i")


def run(
    words: Sequence[str], environment: Mapping[str, str], timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one verb, as `subprocess.run` runs a command. Raises TimeoutExpired after it killed the verb."""
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
        open(os.devnull, "rb") as nothing,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.connect(_server(os.getpid()))
        request = json.dumps([list(words), dict(environment), str(pathlib.Path.cwd())]).encode()
        streams = array.array("i", [stream.fileno() for stream in (nothing, output, errors)])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)]
        connection.sendmsg([STATUS.pack(len(request))], rights)
        connection.sendall(request)
        pid = _received(connection)
        connection.settimeout(timeout)
        try:
            status = _received(connection)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            connection.settimeout(None)
            _received(connection)
            raise subprocess.TimeoutExpired(["pooler", *words], timeout or 0) from None
        said = []
        for stream in (output, errors):
            stream.seek(0)
            said.append(stream.read().decode())
    return subprocess.CompletedProcess(["pooler", *words], status, *said)


@functools.cache
def _server(pid: int) -> str:
    """Start the server of this process, and return where it listens."""
    folder = tempfile.TemporaryDirectory(prefix="forking-")
    place = f"{folder.name}/socket"
    environment = {
        name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ
    }
    command = [sys.executable, "-P", __file__, place]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environment | {"PYTHONPATH": str(SRC), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == b"ready\n", "the server of forks does not start"
    stopping = contextlib.ExitStack()
    stopping.callback(folder.cleanup)
    stopping.callback(process.wait)
    stopping.callback(process.stdin.close)

    @atexit.register
    def _stop() -> None:
        if os.getpid() == pid:
            stopping.close()

    return place


def _received(connection: socket.socket) -> int:
    data = connection.recv(STATUS.size, socket.MSG_WAITALL)
    assert len(data) == STATUS.size, "the server of forks has ended"
    return STATUS.unpack(data)[0]


# ---- the server -----------------------------------------------------------------------------


def _import_all() -> None:
    for name in ("wiring", "psycopg", "jinja2", "rich.console", "encodings.idna"):
        importlib.import_module(name)
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.iter_modules(package.__path__, f"{name}."):
            if not module.name.endswith(".__main__"):
                importlib.import_module(module.name)
    _build_schemas(pydantic.BaseModel)


def _build_schemas(model: type[pydantic.BaseModel]) -> None:
    """Build the schemas that models build when a process uses them first."""
    for kind in model.__subclasses__():
        kind.model_rebuild()
        _build_schemas(kind)


def _serve(place: str) -> None:
    """Return in each fork that has to run a verb, with everything prepared; end with the standard input."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(64)
        print("ready", flush=True)
        while True:
            if sys.stdin.buffer in select.select([listener, sys.stdin.buffer], [], [])[0]:
                os._exit(0)
            connection, _ = listener.accept()
            if not os.fork():
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, rights, _, _ = connection.recvmsg(STATUS.size, socket.CMSG_SPACE(STREAMS * STATUS.size))
    size = STATUS.unpack(data)[0]
    words, environment, folder = json.loads(connection.recv(size, socket.MSG_WAITALL))
    pid = os.fork()
    if pid:
        # A test that kills a verb does not wait for its end.
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(STATUS.pack(pid))
            _, status = os.waitpid(pid, 0)
            connection.sendall(STATUS.pack(os.waitstatus_to_exitcode(status)))
        os._exit(0)
    connection.close()
    streams = array.array("i")
    streams.frombytes(rights[0][2])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["pooler", *words]


if __name__ == "__main__":
    sys.path[:] = [path for path in sys.path if path != str(pathlib.Path(__file__).parent)]
    _import_all()
    gc.freeze()  # forks copy no memory for the garbage collector
    _serve(sys.argv[1])
    runpy.run_module("pooler", run_name="__main__", alter_sys=True)
