"""A TLS handshake in memory, between a server with a pair and a client that verifies it."""

import contextlib
import pathlib
import ssl
import tempfile


def verify(pair, host, authorities=None):
    """Return '' if a client that has only these authorities accepts the pair for a host, else why not.

    `pair` is key, chain and authorities in PEM. Without `authorities` the client has those of the pair.
    """
    key, chain, told = pair
    with tempfile.TemporaryDirectory() as folder:
        served = pathlib.Path(folder, "served.pem")
        served.write_text(f"{key}\n{chain}")
        there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        there.load_cert_chain(served)
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # As libpq: only a root ends a chain.
    here.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
    here.load_verify_locations(cadata=authorities or told)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = there.wrap_bio(up, down, server_side=True)
    client = here.wrap_bio(down, up, server_hostname=host)
    try:
        for _ in range(3):
            for side in (client, server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLError as error:
        return str(error)
    return ""
