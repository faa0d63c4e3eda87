"""What does a test need of Kubernetes? Its real API, with what Juju makes for an application."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ports import free_port

NAMESPACE = "dev"
ADMIN_TOKEN = "the-administrators-token"
MERGE = "application/merge-patch+json"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
HERE = f"/api/v1/namespaces/{NAMESPACE}"

# By application: its token, and whether an operator has trusted it.
APPLICATIONS = {"pgb": ("a-trusted-token", True), "shy": ("a-token-of-no-trust", False)}

_ALL = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
# The role of an application that nobody trusts, as Juju makes it.
_OWN = [
    {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list", "patch"]},
    {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
]


class Refused(Exception):
    """The API answered with an error."""


class Cluster:
    """etcd and kube-apiserver on 127.0.0.1, while the test runs. Nothing runs pods or removes garbage."""

    def __init__(self, etcd: pathlib.Path, apiserver: pathlib.Path) -> None:
        self._etcd, self._apiserver = etcd, apiserver
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        memory = pathlib.Path("/dev/shm")
        self.home = pathlib.Path(
            tempfile.mkdtemp(
                prefix="kubernetes-", dir=memory if os.access(memory, os.W_OK) else None
            )
        )
        try:
            self._start()
            self._furnish()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def request(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> Any:
        """As the administrator. Raises Refused."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=self.tls(), timeout=30
        )
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": kind}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
        if answer.status >= 300:
            raise Refused(f"{method} {path}: {answer.status} {said.decode()}")
        return json.loads(said) if said.startswith(b"{") else said

    def tls(self) -> ssl.SSLContext:
        """Trusts the server, and no other."""
        return ssl.create_default_context(cafile=self.authority)

    @property
    def authority(self) -> str:
        """The file that says who signed the server's certificate: it signs its own."""
        return str(self.home / "apiserver.crt")

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def _start(self) -> None:
        self.port = free_port()
        store, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        key = self.home / "accounts.key"
        key.write_bytes(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        tokens = [f"{ADMIN_TOKEN},admin,admin,system:masters"]
        for name, (token, _) in APPLICATIONS.items():
            account = f"system:serviceaccount:{NAMESPACE}:{name}"
            groups = f"system:serviceaccounts,system:serviceaccounts:{NAMESPACE}"
            tokens.append(f'{token},{account},{name},"{groups}"')
        (self.home / "tokens.csv").write_text("\n".join(tokens) + "\n")
        self._spawn(
            self._etcd,
            f"--data-dir={self.home}/etcd",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            f"--listen-peer-urls={peers}",
            "--unsafe-no-fsync",
        )
        self._spawn(
            self._apiserver,
            f"--etcd-servers={store}",
            f"--cert-dir={self.home}",
            "--bind-address=127.0.0.1",
            # Without it the server looks for a default route, which not every machine has.
            "--advertise-address=192.0.2.1",
            f"--secure-port={self.port}",
            f"--token-auth-file={self.home}/tokens.csv",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.152.183.0/24",
            "--authorization-mode=RBAC",
        )
        end = time.monotonic() + 60
        while not self._ready():
            ended = any(one.poll() is not None for one in self._processes)
            if ended or time.monotonic() > end:
                said = (self.home / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the Kubernetes API does not start: {said}")
            time.sleep(0.1)

    def _spawn(self, *command: object) -> None:
        with (self.home / "log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [str(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.home,
                )
            )

    def _ready(self) -> bool:
        try:
            return self.request("GET", "/readyz") == b"ok"
        except (OSError, Refused):
            return False

    # ---- what Juju makes -----------------------------------------------------------------------

    def _furnish(self) -> None:
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for name, (_, trusted) in APPLICATIONS.items():
            self.request("POST", f"{HERE}/serviceaccounts", {"metadata": {"name": name}})
            self._allow(name, _ALL if trusted else _OWN)
            if trusted:
                self._allow_cluster(name)
            self._deploy(name)

    def _allow(self, application: str, rules: list[dict[str, Any]]) -> None:
        metadata = {"metadata": {"name": application}}
        roles = f"{RBAC}/namespaces/{NAMESPACE}"
        account = {"kind": "ServiceAccount", "name": application, "namespace": NAMESPACE}
        role = {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": application,
        }  # fmt: skip
        self.request("POST", f"{roles}/roles", {**metadata, "rules": rules})
        self.request(
            "POST", f"{roles}/rolebindings", {**metadata, "subjects": [account], "roleRef": role}
        )

    def allow(self, application: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give an application other rights in its namespace; return those before."""
        path = f"{RBAC}/namespaces/{NAMESPACE}/roles/{application}"
        before = self.request("GET", path)["rules"]
        self.request("PATCH", path, {"rules": rules}, MERGE)
        return before

    def _allow_cluster(self, application: str) -> None:
        """Allow everything in the cluster, as `juju trust --scope=cluster` does."""
        metadata = {"metadata": {"name": f"{NAMESPACE}-{application}"}}
        account = {"kind": "ServiceAccount", "name": application, "namespace": NAMESPACE}
        role = {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": f"{NAMESPACE}-{application}",
        }  # fmt: skip
        self.request("POST", f"{RBAC}/clusterroles", {**metadata, "rules": _ALL})
        bound = {**metadata, "subjects": [account], "roleRef": role}
        self.request("POST", f"{RBAC}/clusterrolebindings", bound)

    def _deploy(self, application: str) -> None:
        """A StatefulSet with its first pod, as its controller would make it, and the Service that Juju makes."""
        labels = {"app.kubernetes.io/name": application}
        placeholder = {"name": "placeholder", "port": 65535, "protocol": "TCP"}
        self.request(
            "POST",
            f"{HERE}/services?fieldManager=juju",
            {
                "metadata": {"name": application, "labels": labels},
                "spec": {"type": "ClusterIP", "selector": labels, "ports": [placeholder]},
            },
        )
        pod = {
            "serviceAccountName": application,
            "containers": [{"name": "charm", "image": "charm"}],
        }
        made = self.request(
            "POST",
            f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets",
            {
                "metadata": {"name": application, "labels": labels},
                "spec": {
                    "serviceName": f"{application}-endpoints",
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                },
            },
        )
        owner = {
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": application,
            "uid": made["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True,
        }  # fmt: skip
        self.request(
            "POST",
            f"{HERE}/pods",
            {
                "metadata": {
                    "name": f"{application}-0", "labels": labels, "ownerReferences": [owner],
                },
                "spec": pod,
            },
        )  # fmt: skip


class Front:
    """Stands before the API, passes on what it is told, and does to the next requests what a test wants.

    `faults` by method: a code, with the headers beside it; or `silence`, `hangs up`, `garbage`.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.faults: dict[str, int | str] = {}
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self._over = threading.Event()
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                front.asked.append(self.command)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = front.faults.get(self.command)
                if fault == "silence":
                    front._over.wait(30)
                    self.close_connection = True
                elif fault == "hangs up":
                    self.close_connection = True
                elif fault == "garbage":
                    self._reply(200, b"<html>not the API</html>", {})
                elif fault:
                    status = {
                        "kind": "Status", "apiVersion": "v1", "metadata": {}, "code": fault,
                        "status": "Failure", "reason": "Because", "message": "told by a test",
                    }  # fmt: skip
                    self._reply(int(fault), json.dumps(status).encode(), front.headers)
                else:
                    self._pass_on(body)

            do_PATCH = do_DELETE = do_GET  # noqa: N815 — the names that http.server asks for

            def _pass_on(self, body: bytes) -> None:
                behind = http.client.HTTPSConnection(
                    "127.0.0.1", cluster.port, context=cluster.tls(), timeout=30
                )
                with contextlib.closing(behind):
                    kept = ("authorization", "content-type", "accept")
                    told = {k: v for k, v in self.headers.items() if k.lower() in kept}
                    behind.request(self.command, self.path, body or None, told)
                    answer = behind.getresponse()
                    self._reply(answer.status, answer.read(), {})

            def _reply(self, code: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(code)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
