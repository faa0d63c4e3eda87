"""An authority that signs what a test wants, and plays the provider of the relation `certificates`."""

import dataclasses
import datetime
import json

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from on_juju import APP
from ops import testing

import wiring

SERVICE = f"{APP}-service"

# The host names of the unit, as its request has them.
HOSTS = [
    f"{APP}-0.{APP}-endpoints.dev.svc.cluster.local",
    SERVICE,
    f"{SERVICE}.dev.svc",
    f"{SERVICE}.dev.svc.cluster.local",
]
DAY = datetime.timedelta(days=1)


def now():
    return datetime.datetime.now(datetime.UTC)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode().strip()


def _built(subject, issuer, public, begins, ends, extensions, key):
    builder = x509.CertificateBuilder(
        issuer, subject, public, x509.random_serial_number(), begins, ends
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256())


class Signer:
    """A root, and perhaps an intermediate authority below it that signs."""

    def __init__(self, title="root", *, intermediate=False):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _built(
            name(title), name(title), self._key.public_key(), now() - DAY, now() + 900 * DAY,
            [x509.BasicConstraints(ca=True, path_length=None)], self._key,
        )  # fmt: skip
        self.root = pem(self._certificate)
        self.above = [self.root]
        if intermediate:
            key = ec.generate_private_key(ec.SECP256R1())
            self._certificate = _built(
                name(f"{title} intermediate"), name(title), key.public_key(), now() - DAY,
                now() + 900 * DAY, [x509.BasicConstraints(ca=True, path_length=0)], self._key,
            )  # fmt: skip
            self._key = key
            self.above = [pem(self._certificate), self.root]

    def sign(self, request, *, days=(-1, 90), public=None, names=None, extra=()):
        """Return a certificate for a request in PEM, which begins and ends so many days from now."""
        asked = x509.load_pem_x509_csr(request.encode())
        if names is None:
            alternatives = [item.value for item in asked.extensions]
        else:
            alternatives = [x509.SubjectAlternativeName(list(map(x509.DNSName, names)))]
        begins, ends = (now() + DAY * part for part in days)
        return pem(
            _built(
                asked.subject, self._certificate.subject, public or asked.public_key(),
                begins, ends, [*alternatives, *extra], self._key,
            )
        )  # fmt: skip

    def entry(self, request, **how):
        """Return what a provider writes for a request."""
        certificate = self.sign(request, **how)
        return {
            "certificate_signing_request": request,
            "certificate": certificate,
            "ca": self.above[0],
            "chain": [certificate, *self.above],
        }


class Provider:
    """The provider of the relation `certificates` with a unit of the charm under Scenario."""

    NUMBER = 5

    def __init__(self, juju, signer=None, *, number=NUMBER):
        self.juju, self.signer, self.number = juju, signer or Signer(), number
        relation = testing.Relation(
            "certificates", id=number, remote_app_name="vault", remote_units_data={0: {}}
        )
        juju.change(relations={*juju.state.relations, relation})
        juju.emit(juju.context.on.relation_created(juju.relation(number)))

    @property
    def request(self):
        """The request of the unit in PEM; '' if there is none."""
        written = self.juju.relation(self.number).local_unit_data
        requests = json.loads(written.get("certificate_signing_requests", "[]"))
        assert len(requests) <= 1
        return requests[0]["certificate_signing_request"] if requests else ""

    @property
    def asked(self):
        """The host names and the IP addresses of the request."""
        request = x509.load_pem_x509_csr(self.request.encode())
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = map(str, found.get_values_for_type(x509.IPAddress))
        return found.get_values_for_type(x509.DNSName), list(addresses)

    def issues(self, **how):
        """Sign the request, and run the hook."""
        return self.writes(certificates=[self.signer.entry(self.request, **how)])

    def denies(self, code, message="no"):
        """Refuse the request, and run the hook."""
        error = {"code": code, "name": "ERROR", "message": message}
        return self.writes(request_errors=[{"csr": self.request, "error": error}])

    def writes(self, **fields):
        """Write fields as JSON into the databag of the provider, and run the hook."""
        return self.writes_text(**{key: json.dumps(value) for key, value in fields.items()})

    def writes_text(self, **fields):
        """Write these texts into the databag of the provider, and run the hook."""
        relation = dataclasses.replace(
            self.juju.relation(self.number), remote_app_data=dict(fields)
        )
        self.juju.with_relation(relation)
        return self.juju.changed(self.number)

    def goes(self):
        """End the relation."""
        self.juju.ends(self.number)


def secret(juju):
    """Return what the unit keeps in its secret; {} if there is none."""
    found = [
        secret.latest_content or secret.tracked_content
        for secret in juju.state.secrets
        if (secret.label or "").startswith("certificates.")
    ]
    assert len(found) <= 1
    return found[0] if found else {}


def kept(juju):
    """Return key, chain and authorities that the unit keeps; None if it keeps no pair."""
    content = secret(juju)
    if "key" not in content:
        return None
    return content["key"], content["chain"], content["authorities"]


def key_of(juju):
    """Return the public key of the private key that is kept."""
    return serialization.load_pem_private_key(kept(juju)[0].encode(), None).public_key()


def leaf_of(juju):
    """Return the certificate that is kept."""
    return x509.load_pem_x509_certificate(kept(juju)[1].encode())


def fits(juju):
    """Return whether the key that is kept is that of the certificate that is kept."""
    return kept(juju) is not None and key_of(juju) == leaf_of(juju).public_key()


def serves_tls(juju, *authorities):
    """Let the leader say that units serve TLS, to a unit that does not lead."""
    plan = json.loads(juju.relation("pgb-peers").local_app_data["plan"])
    plan |= {"tls": True, "client_authorities": authorities}
    juju.leader_writes("pgb-peers", plan=json.dumps(plan))
    juju.change(leader=False)


def receives(juju, app=None, unit=None, *, number=7):
    """Relate an application that gives authorities, or change what it wrote, and run the hooks."""
    known = {relation.id for relation in juju.state.relations}
    relation = testing.Relation(
        "receive-ca-certs",
        id=number,
        remote_app_name="roots",
        remote_app_data=app or {},
        remote_units_data={0: unit or {}},
    )
    juju.with_relation(relation)
    if number not in known:
        juju.emit(juju.context.on.relation_created(juju.relation(number)))
    juju.changed(number)


def facts_of(juju):
    """Return the facts that a hook of the unit would read."""
    with juju.context(juju.context.on.update_status(), juju.state) as manager:
        charm = manager.charm
        ports = wiring.juju_ports(charm, charm._state, charm._container, None)
        return ports.facts.read()
