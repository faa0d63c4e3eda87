"""How lightkube finds a Kubernetes API, as it does outside of a cluster."""

from __future__ import annotations

import json


def kubeconfig(url: str, token: str = "the-token", authority: str = "") -> str:
    """Return the text of a file that $KUBECONFIG names.

    `authority` is the file of the authority that issued the API's certificate.
    """
    # Without an authority each client would read all authorities of this machine, also for http.
    verified = (
        {"certificate-authority": authority} if authority else {"insecure-skip-tls-verify": True}
    )
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": url, **verified}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    return json.dumps(config)
