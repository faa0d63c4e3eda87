"""The paths of the files of PgBouncer processes."""

import pydantic

from domain.value import Value, digest


class Layout(Value):
    """The paths of the files of PgBouncer processes on a platform."""

    # An absolute path.
    root: str
    # The directory of sockets and pid files; '' if it is `root`.
    sockets: str = ""
    listen_address: str = "*"
    # PgBouncer writes pid files on a platform without a supervisor.
    with_pid_files: bool = False

    def directory(self, index: int) -> str:
        """Return the directory of the configuration of a process."""
        return f"{self.root}/{index}"

    def socket_directory(self, index: int) -> str:
        """Return the directory of the pid file and of the socket, for clients and the console, of a process."""
        return f"{self.sockets or self.root}/{index}"

    def ini(self, index: int) -> str:
        """Return the path of the configuration file of a process."""
        return f"{self.directory(index)}/pgbouncer.ini"

    def pid_file(self, index: int) -> str:
        """Return the path of the file with the process id of a process. drain.sh or PgBouncer writes it."""
        if self.with_pid_files:
            return f"{self.socket_directory(index)}/pgbouncer.pid"
        return f"{self.directory(index)}/pid"

    @property
    def auth_file(self) -> str:
        """Return the path of the file with the names and secrets of PgBouncer's own users."""
        return f"{self.root}/userlist.txt"

    @property
    def hba_file(self) -> str:
        """Return the path of the HBA file of all processes."""
        return f"{self.root}/hba.conf"

    @property
    def pem_directory(self) -> str:
        """Return the directory of certificates and keys."""
        return f"{self.root}/tls"

    def pem_file(self, name: str, text: str) -> "PemFile":
        """Return a file with certificates or a key, e.g. `server-ca` of a text in PEM.

        A digest of the text is part of the path. Another text has another path, so PgBouncer, which
        compares only paths, uses the new file for new connections after a reload.
        """
        path = f"{self.pem_directory}/{name}-{digest(text)}.pem"
        return PemFile(path=path, text=pydantic.SecretStr(text))


class PemFile(Value):
    """A file with certificates or a key in PEM."""

    # An absolute path, which differs for every text.
    path: str
    text: pydantic.SecretStr
