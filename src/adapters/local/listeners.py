"""Find out whether a port of this machine is free, and which program listens there."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pathlib
import re
import socket
import sys
from collections.abc import Iterator
from typing import NamedTuple

from adapters.local.run_as import user_name
from adapters.local.system_processes import command_of, pids, user_of

# The state LISTEN in /proc/net/tcp (include/net/tcp_states.h of Linux).
_LISTEN = "0A"
_LONGEST_NAME = 60
_UNIT_FILE = re.compile(r"(/.+)/units/([0-9]+/[0-9]+)/pgbouncer\.ini")


class Holder(NamedTuple):
    """The program that listens at a port, as far as the current user may know it."""

    # 0 if it is not known.
    pid: int = 0
    command: tuple[str, ...] = ()
    user: int | None = None

    def __str__(self) -> str:
        if home := self.home:
            return f"the pooler in {home} (process {self.pid})"
        if self.pid:
            name = pathlib.PurePath(self.command[0].partition(" ")[0].rstrip(":")).name
            return f"{name[:_LONGEST_NAME]} (process {self.pid})"
        owner = self.user is not None and (user_name(self.user) or f"number {self.user}")
        return f"a program of user {owner}" if owner else "another program"

    @property
    def home(self) -> str:
        """Return the $POOLER_HOME of a PgBouncer process that `pooler` has started; '' for any other."""
        found = (_UNIT_FILE.fullmatch(word) for word in self.command[1:2])
        return next((match[1] for match in found if match), "")


def is_free(address: str, port: int) -> bool:
    """Return whether no program listens at this port of an address, and the address is of this machine."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        # Connections that have ended a moment ago do not occupy the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(1)
        except OSError:
            return False
    return True


def other_holder(address: str, port: int, home: str) -> Holder | None:
    """Return the program that occupies a port; None if the port is free, or a unit in `home` has it."""
    if is_free(address, port):
        return None
    found = holder(address, port)
    return None if found.home == home else found


def holder(address: str, port: int) -> Holder:
    """Return the program that listens at this port of an address, also if it listens at all addresses."""
    found = [
        (inode, user) for at, inode, user in _listeners(port) if _overlap(at, address) and inode
    ]
    if not found:
        return Holder()
    user = found[0][1]
    pid = _process_of({inode for inode, _ in found}) or _unit_process(port, user)
    command = tuple(word for word in command_of(pid) if word) if pid else ()
    return Holder(pid if command else 0, command, user)


def _overlap(first: str, second: str) -> bool:
    addresses = (ipaddress.ip_address(first), ipaddress.ip_address(second))
    return first == second or any(address.is_unspecified for address in addresses)


def _listeners(port: int) -> Iterator[tuple[str, str, int]]:
    """Yield address, inode and user ID of each socket that listens at a port (proc_net_tcp.rst of Linux)."""
    for table in ("tcp", "tcp6"):
        try:
            lines = pathlib.Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _, number = fields[1].partition(":")
            if fields[3] == _LISTEN and int(number, 16) == port:
                yield _address(address), fields[9], int(fields[7])


def _address(text: str) -> str:
    """Return the address in /proc/net/tcp, which has each four bytes in the order of this machine."""
    words = re.findall("[0-9A-F]{8}", text)
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _unit_process(port: int, user: int) -> int:
    """Return a PgBouncer process of any `pooler` that has a Unix socket for this port; 0 if none has.

    Root in a container may not read the descriptors of another user's process.
    """
    for pid in pids():
        match = _UNIT_FILE.fullmatch([*command_of(pid), "", ""][1])
        if match and user_of(pid) == user:
            with contextlib.suppress(OSError):
                if pathlib.Path(match[1], "run", match[2], f".s.PGSQL.{port}").exists():
                    return pid
    return 0


def _process_of(inodes: set[str]) -> int:
    """Return a process that has any of these sockets open; 0 if the current user may not know it."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in pids():
        # Only root may read the descriptors of another user's process.
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor.path) in wanted:
                        return pid
    return 0
