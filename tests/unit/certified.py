"""A unit under Scenario that keeps a certificate for clients."""

import functools

import pydantic
from on_juju import ACTIONS, CONFIG, META, Juju, charm_with
from ops import testing

import wiring
from adapters.memory import MemoryDatabases, MemoryExposure
from app.application import Application
from authority import Authority
from domain.tls import ServedPair, UnitCertificates, certificates_in


class Certified(Juju):
    """A unit that keeps the pair in `certificates`."""

    certificates = UnitCertificates()

    def _begin(self, folder, server, kubernetes, workload):
        self.server, self.kubernetes, self.workload = server, kubernetes, workload
        root = folder / "charm"
        root.mkdir(parents=True)
        charm = self._charm(server, kubernetes, workload.consoles())
        self.context = testing.Context(
            charm, meta=META, actions=ACTIONS, config=CONFIG, charm_root=root
        )

    def _charm(self, server, kubernetes, consoles):
        juju = self

        class Facts:
            def __init__(self, facts):
                self._facts = facts

            def read(self):
                return self._facts.read().with_certificates(juju.certificates)

        class Charm(charm_with(server, kubernetes, consoles)):
            @functools.cached_property
            def application(self):
                ports = wiring.juju_ports(self, self._state, self._container, consoles)
                exposure = MemoryExposure(kubernetes, self._units, self._check_leader)
                facts, databases = Facts(ports.facts), MemoryDatabases(server)
                return Application(
                    ports._replace(
                        facts=facts,
                        databases=databases,
                        exposure=exposure,
                        rollout=kubernetes.rollout(self.unit.name, self._units),
                    )
                )

        return Charm


def pair_in(folder):
    """Return a pair of a new authority, which is made in a folder."""
    root = Authority(folder / "served")
    issued = root.issue("pool", "pool")
    return ServedPair(
        key=pydantic.SecretStr(issued.key.read_text()),
        chain=certificates_in(issued.certificate.read_text()),
        authorities=certificates_in(root.root.read_text()),
    )
