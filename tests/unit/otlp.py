"""A receiver of traces (OTLP over HTTP, in JSON), in the ways in which a receiver may behave."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import threading

# In seconds. A request that comes takes far less.
PATIENCE = 30


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what hooks send. `answer` is the status of its answers; with `tls`, a certificate and its key."""

    daemon_threads = True

    def __init__(self, answer=200, tls=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.scheme = answer, "https" if tls else "http"
        # The path and the body of each request.
        self.requests = []
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    @property
    def spans(self):
        """Return all spans, each once, as (span, attributes of the resource): a hook may send a span again."""
        found = {
            span["spanId"]: (span, attributes(resource["resource"]))
            for _, body in self.requests
            for resource in json.loads(body)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        }
        return list(found.values())

    @property
    def hooks(self):
        """Return the spans that have no parent: of hooks."""
        return [span for span, _ in self.spans if not span.get("parentSpanId")]

    @property
    def titles(self):
        return [span["name"] for span in self.hooks]

    def handle_error(self, request, client_address):
        """Print nothing: a client may refuse the certificate."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, body))
        self.send_response(self.server.answer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def attributes(entity):
    return {field["key"]: field["value"].get("stringValue") for field in entity["attributes"]}


@contextlib.contextmanager
def receiving(**how):
    """Receive traces while the block runs."""
    with Receiver(**how) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join(PATIENCE)


@contextlib.contextmanager
def silent():
    """Accept connections while the block runs, and answer nothing; yield the URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
