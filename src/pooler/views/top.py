"""The view of `pooler top`: which applications wait for server connections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pydantic

from domain.console import PoolState
from domain.plan import AUTH_ALIASES
from pooler.survey import ProcessState
from pooler.views.status import Load, load_of

# The number of samples of waiting clients that are kept: a minute with a sample every second.
SAMPLES = 60


class PoolView(Load):
    """The pool of a user and a database, of all processes, or of a single process."""

    # The name of the application; '' for a user that has no application.
    application: str
    user: str
    database: str
    pool_mode: str
    # '' and -1 for the pools of all processes.
    unit: str = ""
    process: int = -1


class TopView(Load):
    """Everything that `pooler top` shows; the numbers are the sums of all pools of clients."""

    time: pydantic.AwareDatetime
    paused: bool = False
    # The pool whose client has waited longest first.
    rows: tuple[PoolView, ...] = ()
    # The number of rows that are not shown, because they are idle or internal.
    hidden: int = 0
    # The number of clients that waited, in the order of time.
    waiting_last_minute: tuple[int, ...] = ()
    # What is wrong with processes that did not answer.
    problems: tuple[str, ...] = ()


def top_view(
    time: pydantic.AwareDatetime,
    states: Sequence[ProcessState],
    names: Mapping[str, str],
    history: Sequence[int] = (),
    *,
    paused: bool = False,
    each: bool = False,
    everything: bool = False,
) -> TopView:
    """Return the view of processes. `names` has the application of each user, `history` earlier samples.

    With `each`, every process has rows of its own; with `everything`, idle and internal pools have rows.
    """
    grouped: dict[tuple[str, str, str, int], list[PoolState]] = {}
    for state in states:
        unit, process = (state.process.unit, state.process.number) if each else ("", -1)
        for pool in state.pools:
            grouped.setdefault((pool.alias, pool.user, unit, process), []).append(pool)
    rows = [_row(key, pools, names) for key, pools in grouped.items()]
    shown = [row for row in rows if everything or (row.clients and not _is_internal(row))]
    total = load_of(
        pool for pools in grouped.values() for pool in pools if pool.alias not in AUTH_ALIASES
    )
    return TopView(
        **total.model_dump(),
        time=time,
        paused=paused,
        rows=tuple(sorted(shown, key=_order)),
        hidden=len(rows) - len(shown),
        waiting_last_minute=(*history, total.waiting)[-SAMPLES:],
        problems=_problems(states),
    )


def _row(
    key: tuple[str, str, str, int], pools: Iterable[PoolState], names: Mapping[str, str]
) -> PoolView:
    (database, user, unit, process), counted = key, list(pools)
    return PoolView(
        **load_of(counted).model_dump(),
        application=names.get(user, ""),
        user=user,
        database=database,
        pool_mode=counted[0].mode,
        unit=unit,
        process=process,
    )


def _is_internal(row: PoolView) -> bool:
    """Return whether PgBouncer itself uses the pool, to look passwords up."""
    return row.database in AUTH_ALIASES


def _order(row: PoolView) -> tuple[object, ...]:
    return (
        -row.longest_wait,
        -row.waiting,
        -row.clients,
        row.database,
        row.user,
        row.unit,
        row.process,
    )


def _problems(states: Iterable[ProcessState]) -> tuple[str, ...]:
    return tuple(f"{state.process.unit}: {state.error}" for state in states if state.error)
