"""Spans of hooks, intents and calls of ports, for a hook that is traced.

A span has the names of what is called, and for an error its class. It never has an argument, a result or the
text of an error, because these may contain a password.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast

from opentelemetry import trace

from app.outcome import AskAgain, Deferred, Done

if TYPE_CHECKING:
    from app.application import Application
    from app.converge import Intent
    from app.ports import Ports
    from domain.facts import Facts

tracer = trace.get_tracer("pgbouncer-k8s")

# A plain function, which takes no time.
_NOT_TRACED = {"new_password"}


@contextlib.contextmanager
def span(name: str) -> Generator[trace.Span]:
    """Open a span for the time of the block."""
    with tracer.start_as_current_span(
        name, record_exception=False, set_status_on_exception=False
    ) as opened:
        try:
            yield opened
        except BaseException as error:
            opened.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
            raise


class Traced:
    """An object each of whose calls is a span; other attributes are those of the object."""

    def __init__(self, name: str, traced: object) -> None:
        self._name = name
        self._traced = traced

    def __getattr__(self, attribute: str) -> object:
        """Return a method that opens a span, or another attribute as it is."""
        found = getattr(self._traced, attribute)
        return _call(f"{self._name}.{attribute}", found) if callable(found) else found


def _call(name: str, function: Callable[..., object]) -> Callable[..., object]:
    def call(*arguments: object, **named: object) -> object:
        with span(name) as opened:
            result = function(*arguments, **named)
            if isinstance(result, (Done, Deferred, AskAgain)):
                opened.set_attribute("outcome", type(result).__name__)
        if isinstance(result, AbstractContextManager):
            return _opened(name, cast("AbstractContextManager[object]", result))
        return result

    return call


@contextlib.contextmanager
def _opened(name: str, connection: AbstractContextManager[object]) -> Generator[object]:
    """Open a connection in a span of its own, and yield it with a span for each call."""
    with contextlib.ExitStack() as stack:
        with span(f"{name} (log in)"):
            value = stack.enter_context(connection)
        yield Traced(name.partition(".")[0], value)


def intent(traced: Intent) -> Intent:
    """Return the intent with a span for each run."""
    run = _call(f"intent {type(traced).__name__}", traced)

    def call(facts: Facts) -> Done | AskAgain:
        return cast("Done | AskAgain", run(facts))

    return call


def ports(traced: Ports) -> Ports:
    """Return the ports with a span for each call."""
    return traced._replace(
        **{
            name: Traced(name, port)
            for name, port in traced._asdict().items()
            if name not in _NOT_TRACED
        }
    )


def application(traced: Application) -> Application:
    """Return the application with a span for each hook."""
    return cast("Application", Traced("application", traced))
