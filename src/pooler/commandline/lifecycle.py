"""The verbs that start and stop units."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pooler.commandline.verb import verb

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs


def add(verbs: Verbs) -> None:
    """Add `up`, `scale`, `down`, `watch` and `service`."""
    _add_up(verbs)
    scale = verb(verbs, "scale", "up:scale", "set the number of units")
    scale.add_argument("units", type=int, help="number of units, 1 to 20")
    _add_down(verbs)
    watch = verb(
        verbs,
        "watch",
        "watch:watch",
        "start processes again that end or hang, until SIGTERM; `up` starts this in the background",
        reads=True,
    )
    watch.add_argument("--up", action="store_true", help="first start everything, as `up` does")
    watch.add_argument("--background", action="store_true", help=argparse.SUPPRESS)
    service = verb(
        verbs,
        "service",
        "service:service",
        "start the units at boot and watch them, by a unit of systemd",
        reads=True,
    )
    service.add_argument(
        "action",
        choices=("install", "uninstall", "status"),
        help="what to do with the unit of systemd",
    )


def _add_up(verbs: Verbs) -> None:
    up = verb(verbs, "up", "up:up", "start the units, or continue after any interruption")
    up.add_argument("--units", type=int, help="number of units; the first `up` starts 1")
    up.add_argument(
        "--backend",
        metavar="URI",
        help="an existing server, postgresql://USER@HOST:PORT, with sslmode and sslrootcert as libpq takes them;"
        " the password is in $PGPASSWORD",
    )
    up.add_argument(
        "--read-only-endpoints",
        metavar="HOST:PORT,…",
        help="replicas of that server, which clients reach as DATABASE_readonly",
    )
    up.add_argument(
        "--listen",
        metavar="ADDRESS",
        help="listen at this address of the machine, too, so that containers and other machines"
        " can connect; 0.0.0.0 is all addresses, `none` ends it",
    )
    up.add_argument(
        "--tls",
        action=argparse.BooleanOptionalAction,
        help="make a certificate authority on this machine, so that clients can encrypt their connections"
        " and verify the units; --no-tls ends that",
    )
    up.add_argument(
        "--metrics",
        action=argparse.BooleanOptionalAction,
        help="run an exporter of Prometheus metrics beside each process of PgBouncer;"
        " --no-metrics ends that",
    )
    up.add_argument(
        "--no-watch",
        action="store_true",
        help="start no process that starts again what has ended (as $POOLER_NO_WATCH)",
    )
    up.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="options, as for `config`")


def _add_down(verbs: Verbs) -> None:
    down = verb(verbs, "down", "down:down", "stop all processes; data and users stay")
    how = down.add_mutually_exclusive_group()
    how.add_argument(
        "--delete",
        action="store_true",
        help="delete everything that `pooler` made, after a question",
    )
    how.add_argument(
        "--abandon",
        action="store_true",
        help="remove the files of a pooler whose --backend is gone for good, after a question",
    )
    how.add_argument("--keep", action="store_true", help="no effect: `down` always keeps data")
    down.add_argument("--yes", action="store_true", help="delete without a question")
