"""The verb `authority`: show or change the certificate authority of this machine."""

from __future__ import annotations

import argparse

from adapters.local.authority import end_of
from pooler import tables
from pooler.arguments import CommandError
from pooler.certification import client_authorities
from pooler.invocation import Invocation
from pooler.platform import LocalPlatform
from pooler.verbs.status import show_status


def authority(run: Invocation, arguments: argparse.Namespace) -> int:
    """Show the authority and the certificates of the units, or change them."""
    platform = run.platform(stopped=arguments.action == "show")
    record, certification = platform.state.authority, platform.certification
    if record is None:
        raise CommandError("there is no authority on this machine: run `pooler up --tls`")
    match arguments.action:
        case "renew":
            certification.renew()
        case "rotate":
            certification.rotate()
        case "stop" | "start":
            record.silent = arguments.action == "stop"
            run.store.save(platform.state)
        case _:
            tables.show(("what", "state"), _rows(run, platform))
            return 0
    run.settle(platform)
    return show_status(platform)


def _rows(run: Invocation, platform: LocalPlatform) -> list[tuple[str, str]]:
    """Return what there is to say about the authority and about the certificate of each unit."""
    record = platform.state.authority
    if record is None:
        return []
    state = (
        "issues nothing until `pooler authority start`" if record.silent else "issues certificates"
    )
    rows = [("authority", f"{state}, ends on {end_of(record.certificate):%Y-%m-%d}")]
    for name, unit in platform.model.units.items():
        kept, asked = unit.certificates.kept, unit.certificates.requested
        names = ", ".join((*asked.addresses, *asked.hosts)) if asked else ""
        rows.append(
            (
                name,
                f"ends on {end_of(kept.chain[0]):%Y-%m-%d}: {names}"
                if kept
                else "has no certificate",
            )
        )
    return [*rows, ("file for clients", str(client_authorities(run.store)))]
