"""What does a test need of a workload container? A real Pebble as its first process, with a PgBouncer."""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import ops
import yaml

from adapters.pebble.layer import DRAIN
from adapters.pebble.observed import ObservedContainer

if TYPE_CHECKING:
    from collections.abc import Callable

# A file system in memory, with the machine's programs and none of its data. $1 is where it is
# made, $2 is the volume that is shared with the charm, $3 the disk's size; then what else is to be seen.
_ENTER = r"""
set -e
root=$1 shared=$2 disk=$3
shift 3
mount -t tmpfs none "$root"
for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then cp -P "/$name" "$root/"; elif [ -d "/$name" ]; then set -- "$@" "/$name"; fi
done
for name in /usr /dev /sys /etc/alternatives /etc/ld.so.cache "$@"; do
    [ -e "$name" ] || continue
    mkdir -p "$root${name%/*}"
    if [ -d "$name" ]; then mkdir -p "$root$name"; else touch "$root$name"; fi
    mount --rbind "$name" "$root$name"
done
mkdir -p -m 700 "$root/root"
mkdir -p "$root/proc" "$root/tmp" "$root/run" "$root/etc" "$root/usr" \
    "$root/charm/container" "$root/var/lib/pgbouncer" "$root/var/run"
mount -t proc proc "$root/proc"
mount --bind "$shared" "$root/charm/container"
mount -t tmpfs -o "size=$disk,mode=755,uid=$PEBBLE_USER" none "$root/var/lib/pgbouncer"
printf 'root:x:0:0::/:/bin/sh\npostgres:x:7070:7070::/:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\npostgres:x:7070:\n' >"$root/etc/group"
echo '127.0.0.1 localhost' >"$root/etc/hosts"
set --
# Fewer than a service may have, as container runtimes give them.
ulimit -Sn 1024
[ "$PEBBLE_USER" = 0 ] || set -- "--userspec=$PEBBLE_USER:$PEBBLE_USER" "--groups=$JUJU_GROUP"
exec chroot "$@" "$root" "$PEBBLE_PROGRAM" run --create-dirs --hold --verbose
"""

POSTGRES = 7070  #: user and group of the container, which need not be those of this machine

#: The group of every process in a pod that Juju does not run as root; volumes belong to it.
JUJU_GROUP = 170
META = yaml.safe_load((pathlib.Path(__file__).parents[2] / "metadata.yaml").read_text())
#: The user that metadata.yaml gives to Pebble. The container has no name for it.
NON_ROOT = META["containers"]["pgbouncer"]["uid"]


class Workload:
    """A container in namespaces of its own. `restart` gives it a fresh disk, as Kubernetes does."""

    namespaces: tuple[str, ...] = ("--mount", "--pid")

    def __init__(self, pebble: pathlib.Path, pgbouncer: pathlib.Path, user: int = 0) -> None:
        self._pebble, self._pgbouncer, self._user = pebble, pgbouncer, user
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="workload-", dir="/tmp"))
        self.home.chmod(0o755)
        for name in ("root", "shared", "bin"):
            (self.home / name).mkdir()
        if user:
            os.chown(self.home / "shared", 0, JUJU_GROUP)
            (self.home / "shared").chmod(0o2777)
        self.provide(f'exec {pgbouncer} "$@"')
        self.log = self.home / "log"
        self.start()

    @property
    def socket(self) -> str:
        """Where the charm finds Pebble."""
        return str(self.home / "shared" / "pebble.socket")

    def provide(self, script: str, name: str = "pgbouncer") -> None:
        """What `pgbouncer`, or another program, is in this container."""
        program = self.home / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def start(self, disk: str = "16m") -> None:
        """Pebble answers afterwards."""
        seen = {str(self.home / "bin"), str(self._pebble.parent), *self._program_and_libraries()}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    # A container begins with no signal ignored, as this process may not (nohup).
                    *("env", "--default-signal=HUP"),
                    *("unshare", *self.namespaces, "--fork", "--kill-child"),
                    *("--propagation", "private", "sh", "-c", _ENTER, "workload"),
                    *(str(self.home / "root"), str(self.home / "shared"), disk, *sorted(seen)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    "PATH": f"{self.home}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "PEBBLE": "/charm/container/pebble",
                    "PEBBLE_SOCKET": "/charm/container/pebble.socket",
                    "PEBBLE_PROGRAM": str(self._pebble),
                    "PEBBLE_USER": str(self._user),
                    # A directory that exists, and that only root may enter.
                    "HOME": "/root",
                    "JUJU_GROUP": str(JUJU_GROUP),
                },
            )
        self.wait(self._answers, 20)

    def kill(self) -> None:
        """Nothing of it runs any more; the shared volume stays."""
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self._process.wait(10)
        pathlib.Path(self.socket).unlink(missing_ok=True)

    def restart(self, disk: str = "16m") -> None:
        """As after a crash: nothing of it is left but what is in the shared volume."""
        self.kill()
        self.start(disk)

    def terminate(self) -> None:
        """What Kubernetes says first when a pod has to go."""
        os.kill(self.pid, signal.SIGTERM)

    def ended(self) -> bool:
        """Whether Pebble has gone."""
        return self._process.poll() is not None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Of Pebble, as this machine counts."""
        outer = self._process.pid
        return int(pathlib.Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])

    def path(self, inside: str) -> pathlib.Path:
        """A file of the container, as this machine sees it."""
        return pathlib.Path(f"/proc/{self.pid}/root{inside}")

    def processes(self, name: str = "pgbouncer.ini") -> list[int]:
        """The PgBouncer processes in it, without the shells that run them."""
        space = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = []
        for one in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (one / "cmdline").read_bytes().decode().split("\0")
                here = os.readlink(one / "ns" / "pid") == space
                if here and any(name in word for word in words) and DRAIN not in words:
                    found.append(int(one.name))
        return sorted(found)

    def inside(self, *command: str) -> None:
        """Run something as root among its mounts."""
        subprocess.run(["nsenter", "--target", str(self.pid), "--mount", *command], check=True)

    def container(self, client: Callable[[str], ops.pebble.Client] = ops.pebble.Client) -> Any:
        """What ops makes of it for a charm."""
        juju = SimpleNamespace(version=ops.JujuVersion("3.6.11"))
        backend = SimpleNamespace(_juju_context=juju)
        return ops.Container("pgbouncer", backend, client(self.socket))

    def observed(
        self, client: Callable[[str], ops.pebble.Client] = ops.pebble.Client
    ) -> ObservedContainer:
        """Return the container as a hook sees it. The record outlives the container, as the charm's disk does."""
        return ObservedContainer(
            self.container(client), self.home / "applied.json", pathlib.Path(self.socket)
        )

    def health(self, level: str) -> int:
        """What a probe of Kubernetes is told: 200, or 502."""
        connection = http.client.HTTPConnection("pebble")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        with contextlib.closing(connection):
            connection.sock.connect(self.socket)
            connection.request("GET", f"/v1/health?level={level}")
            return connection.getresponse().status

    @staticmethod
    def wait(true: Callable[[], object], seconds: float) -> None:
        """It becomes true, or the test fails."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"not within {seconds} s"
            time.sleep(0.02)

    def _answers(self) -> bool:
        assert not self.ended(), self.log.read_text()[-2000:]
        try:
            return self.health("alive") == 200
        except OSError:
            return False

    def _program_and_libraries(self) -> list[str]:
        # A PgBouncer of the machine's own needs nothing but /usr.
        place = self._pgbouncer.resolve().parent
        return [] if place.is_relative_to("/usr") else [str(place)]
