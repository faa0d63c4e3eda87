"""Record the trace of this hook, and send it, by ops-tracing. Only a hook that is traced imports this module.

Tracing neither fails nor delays a hook: what goes wrong is a line in the log, and the wait at the end is limited.
What is not sent by then stays in the buffer, for the next hook that is traced.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pathlib
import sqlite3
import sys
import threading
import time
import types
from typing import TYPE_CHECKING

import ops
from opentelemetry import context, trace
from opentelemetry.context import contextvars_context

from adapters.juju.tracing import BUFFER
from adapters.spans import tracer

if TYPE_CHECKING:
    from adapters.juju.tracing import Destination

logger = logging.getLogger(__name__)

# How long a hook waits at its end until its trace is sent, and at its beginning for the buffer.
SEND_SECONDS = 0.7
LOCK_SECONDS = 0.1

_LONGEST_LINE = 300


class _Trace:
    """The trace of this hook. A process runs a single hook."""

    def __init__(self, root: trace.Span, library: types.ModuleType) -> None:
        self._root = root
        self._library = library
        self._sender = threading.Thread(target=self._send, daemon=True, name="traces")

    def end(self, error: BaseException | None) -> None:
        """End the trace, and wait for a moment until it is sent."""
        if error is not None:
            self._root.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
        self._root.end()
        self._sender.start()
        self._sender.join(SEND_SECONDS)

    @property
    def sends(self) -> bool:
        """Return whether a thread still sends."""
        return self._sender.is_alive()

    def _send(self) -> None:
        with contextlib.suppress(Exception):
            self._library._shutdown()


_traces: list[_Trace] = []


def begin(folder: pathlib.Path, destination: Destination) -> bool:
    """Begin the trace of this hook, which is sent to the destination. Return whether the hook is traced."""
    if _traces:
        return True
    buffer = folder / BUFFER
    try:
        # Juju names no hook for an action.
        juju = ops.JujuContext.from_environ({"JUJU_HOOK_NAME": "", **os.environ})
        library = _library()
        logging.getLogger("ops_tracing._export").addFilter(_OneLine(buffer))
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        try:
            _set_up(library, juju, buffer, destination)
        except sqlite3.Error:
            # The traces in a buffer that cannot be used are lost.
            buffer.unlink(missing_ok=True)
            _set_up(library, juju, buffer, destination)
    except Exception as error:
        logger.warning("This hook is not traced: %s: %s", type(error).__name__, error)
        return False
    _traces.append(_Trace(_root(), library))
    return True


def end(error: BaseException | None) -> None:
    """End the trace of this hook, which failed by the error if there is an error."""
    for traced in _traces:
        traced.end(error)


def end_process(code: int) -> None:
    """End the process with this code if a thread still sends; else return.

    At the ordinary end of a process OpenSSL frees memory that the thread uses.
    """
    if any(traced.sends for traced in _traces):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _library() -> types.ModuleType:
    """Import ops-tracing, which charm.py keeps `import ops` from importing."""
    sys.modules.pop("ops_tracing", None)
    return importlib.import_module("ops_tracing")


def _set_up(
    library: types.ModuleType,
    juju: ops.JujuContext,
    buffer: pathlib.Path,
    destination: Destination,
) -> None:
    """Let ops-tracing record spans. Raises sqlite3.Error if the buffer cannot be used."""
    if buffer.exists():
        # ops-tracing would wait for an hour until another process unlocks the buffer.
        with contextlib.closing(sqlite3.connect(buffer, timeout=LOCK_SECONDS)) as opened:
            opened.execute("BEGIN IMMEDIATE")
    # ops calls this at the beginning of each hook, if it has imported ops-tracing.
    library._setup(juju, "PgBouncerCharm")
    library.set_destination(destination.url, destination.authorities or None)


def _root() -> trace.Span:
    """Return the span of the whole hook, from the start of the process on. It becomes the current span."""
    begun = _start_of_process()
    path = os.environ.get("JUJU_DISPATCH_PATH", "")
    kind, _, name = path.rpartition("/")
    title = f"{'action' if kind == 'actions' else 'hook'} {name}"
    root = tracer.start_span(title, context=context.Context(), start_time=begun)
    inside = trace.set_span_in_context(root)
    # Only an environment variable sets it in public, before opentelemetry is imported.
    context._RUNTIME_CONTEXT = _Inside(inside)  # pyright: ignore[reportPrivateUsage]
    tracer.start_span("start of the charm", context=inside, start_time=begun).end()
    return root


def _start_of_process() -> int:
    """Return when this process started, in nanoseconds since 1970; now, if the kernel does not say."""
    try:
        # The fields after the name of the program, which may contain spaces; the 22nd of all is the start.
        fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        age = 0.0
    return time.time_ns() - round(max(age, 0.0) * 1e9)


class _Inside(contextvars_context.ContextVarsRuntimeContext):
    """The current context, which is that of the root where a span would have no parent.

    The trace begins within an event of ops, whose end would restore a context without a span.
    """

    def __init__(self, root: context.Context) -> None:
        super().__init__()
        self._root = root

    def get_current(self) -> context.Context:
        """Return the current context."""
        return super().get_current() or self._root


class _OneLine(logging.Filter):
    """Lets a single line of ops-tracing's exporter pass in a hook, without a traceback.

    A buffer that fails is removed, so that it does not fail in each hook.
    """

    def __init__(self, buffer: pathlib.Path) -> None:
        super().__init__()
        self._buffer = buffer
        self._passed = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is logged, and shorten it."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, sqlite3.Error):
            with contextlib.suppress(OSError):
                self._buffer.unlink(missing_ok=True)
        if self._passed:
            return False
        self._passed = True
        text = f"{record.getMessage()}: {type(error).__name__}" if error else record.getMessage()
        record.msg, record.args = text[:_LONGEST_LINE], ()
        record.exc_info = record.exc_text = None
        return True
