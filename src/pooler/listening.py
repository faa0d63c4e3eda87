"""Choose the port of the units and the addresses that they listen at, before anything changes."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Generator, Iterable, Sequence

from adapters.local.listeners import other_holder
from domain.settings import Settings, settings_from
from domain.value import number_of
from pooler.arguments import CommandError, UsageError
from pooler.platform import unit_address
from pooler.store import State, Store

PORT = "listen_port"
DEFAULT_PORT = Settings().listen_port

# How many ports after the default port `pooler up` tries.
MOST_TRIES = 100

# The word of `--listen` that ends listening at a second address.
NOWHERE = "none"


def listen_address(text: str) -> str:
    """Return the address that `--listen` names; '' for `none`. Raises UsageError."""
    if text == NOWHERE:
        return ""
    try:
        address = ipaddress.ip_address("127.0.0.1" if text == "localhost" else text)
    except ValueError:
        raise UsageError(
            f"--listen: {text[:60]!r} is no IP address: write an address of this machine,"
            f" 0.0.0.0 for all of its addresses, or {NOWHERE}"
        ) from None
    if getattr(address, "scope_id", None):
        raise UsageError(
            f"--listen: {address} has a zone, which no address of an endpoint can have: write an address"
            " without `%`"
        )
    if address.is_multicast:
        raise UsageError(
            f"--listen: no client can connect to {address}, which is a multicast address:"
            f" write an address of this machine, 0.0.0.0 for all of its addresses, or {NOWHERE}"
        )
    check_address(str(address))
    return str(address)


def check_address(address: str) -> None:
    """Raise UsageError if a listener cannot have this address, because it is not of this machine."""
    try:
        with socket.socket(_family(address)) as listener:
            listener.bind((address, 0))
    except OSError:
        raise UsageError(
            f"--listen: {address} is no address of this machine: `ip address` shows all of them;"
            f" 0.0.0.0 stands for all, and {NOWHERE} for no further address"
        ) from None


def reachable(address: str) -> str:
    """Return the address that clients elsewhere connect to if units listen at this address.

    For all addresses it is the address from which this machine connects to other networks, or to
    itself if it has no network.
    """
    if not address or not ipaddress.ip_address(address).is_unspecified:
        return address
    family = _family(address)
    # A UDP socket sends nothing when it is connected. The addresses are for documentation (RFC 5737, RFC 3849).
    outside = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"
    with socket.socket(family, socket.SOCK_DGRAM) as route:
        try:
            route.connect((outside, 9))
        except OSError:
            return "::1" if family == socket.AF_INET6 else "127.0.0.1"
        return str(route.getsockname()[0])


def exposes(address: str) -> bool:
    """Return whether other machines or containers may reach this address."""
    return bool(address) and not ipaddress.ip_address(address).is_loopback


@contextlib.contextmanager
def chosen_port(
    store: Store, state: State, units: int, say: Callable[[str], None]
) -> Generator[None]:
    """Check that the port of the units is free, or choose a free port at the first `up`.

    `units` is the number of units that will run. While the context lasts, no other `pooler` chooses the
    port. Raises CommandError.
    """
    if state.model.units or PORT in state.model.options:
        check_ports(store, state, units)
        yield
        return
    addresses = _addresses(state, units)
    with contextlib.ExitStack() as reservation:
        for port in range(DEFAULT_PORT, DEFAULT_PORT + MOST_TRIES):
            if not _other_holder(store, addresses, port) and _reserved(port, reservation):
                break
        else:
            raise CommandError(
                f"ports {DEFAULT_PORT} to {DEFAULT_PORT + MOST_TRIES - 1} are taken:"
                " choose another port with `pooler up listen_port=PORT`"
            )
        if port != DEFAULT_PORT:
            found = _other_holder(store, addresses, DEFAULT_PORT)
            by = found[1] if found else "another pooler command"
            say(f"port {DEFAULT_PORT} is taken by {by}: the units use port {port}")
        state.model.options[PORT] = port
        yield


def port_of(state: State) -> int:
    """Return the port that the options of a state name; the default if they are not valid."""
    settings, _ = settings_from(state.model.options)
    return settings.listen_port if settings else DEFAULT_PORT


def check_ports(store: Store, state: State, units: int | None = None) -> None:
    """Raise CommandError if another program has the port of a unit that runs, or that will be added.

    `units` is the number of units that will run; None if that does not change.
    """
    port = port_of(state)
    if taken := _other_holder(store, _addresses(state, units), port):
        address, found = taken
        raise CommandError(
            f"port {port} of {address} is taken by {found}: end that program, or choose another port"
            " with `pooler up listen_port=PORT`"
        )


def _other_holder(store: Store, addresses: Iterable[str], port: int) -> tuple[str, object] | None:
    for address in addresses:
        if found := other_holder(address, port, str(store.home)):
            return address, found
    return None


def _addresses(state: State, units: int | None) -> Sequence[str]:
    """Return the addresses of the units that run and of those that will be added, and of `--listen`."""
    known = {number_of(name): unit.address for name, unit in state.model.units.items()}
    first, count = 1 + max(known, default=-1), len(known) if units is None else units
    new = (unit_address(number) for number in range(first, first + count - len(known)))
    return [*known.values(), *new, *filter(None, [state.listen])]


def _reserved(port: int, reservation: contextlib.ExitStack) -> bool:
    """Return whether this command has reserved the port against another first `pooler up`.

    Two PgBouncer processes of the same user would share the port, each with clients of the other.
    The reservation is a UDP socket, which PgBouncer does not use.
    """
    place = reservation.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    try:
        place.bind((unit_address(0), port))
    except OSError:
        return False
    return True


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
