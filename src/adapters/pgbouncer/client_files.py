"""Check the key, the chain and the authorities that PgBouncer serves TLS with, before PgBouncer reads them.

PgBouncer does not start with a key that does not fit its certificate. A process that runs stays with the pair
before, and PgBouncer 1.24 does not say so.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from app.errors import PoolerFailed

if TYPE_CHECKING:
    from domain.instances import PemFile


def check(files: Sequence[PemFile]) -> None:
    """Raise PoolerFailed unless TLS can be served with these files: none, or key, chain and authorities."""
    if not files:
        return
    # Imported here, because most units serve no TLS.
    import ssl

    key, chain, authorities = (file.text.get_secret_value() for file in files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with ExitStack() as stack:
            paths = [stack.enter_context(_in_memory(text)) for text in (chain, key)]
            # A key that needs a password is refused; without a password OpenSSL would ask a terminal for it.
            context.load_cert_chain(*paths, password="")
        context.load_verify_locations(cadata=authorities)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", "") or str(error)
        raise PoolerFailed(
            f"the certificate for clients cannot be served ({reason}): PgBouncer keeps the certificate before"
        ) from None


@contextmanager
def _in_memory(text: str) -> Generator[str]:
    """Yield the path of a file that is on no disk and ends with the block."""
    descriptor = os.memfd_create("pem")
    try:
        with open(descriptor, "w", closefd=False) as file:
            file.write(text)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
