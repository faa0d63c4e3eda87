"""The application: every hook of a unit, and the order of the intents that the hooks share."""

from app.converge import Converge
from app.hooks.backend import BackendBroken, BackendChanged, BackendDeparted, BackendReturned
from app.hooks.clients import ClientsBroken, ClientsChanged, ClientsDeparted
from app.hooks.config_changed import ConfigChanged
from app.hooks.leader_elected import LeaderElected
from app.hooks.pause import Pause, Resume
from app.hooks.pebble_ready import PebbleReady
from app.hooks.peers import PeersChanged, PeersCreated, PeersDeparted
from app.hooks.start import Start
from app.hooks.update_status import UpdateStatus
from app.intents.configure_pooler import ConfigurePooler
from app.intents.expose import Expose
from app.intents.publish_endpoints import PublishEndpoints
from app.intents.reconcile_access import ReconcileAccess
from app.intents.request_backend import RequestBackend
from app.intents.share_configuration import ShareConfiguration
from app.intents.withdraw_access import WithdrawAccess
from app.ports import Ports


class Application:
    """The hooks of a unit on one platform. Each attribute is a hook or an action: call it to run it."""

    def __init__(self, ports: Ports) -> None:
        share = ShareConfiguration(ports.peers, ports.databases)
        converge = Converge(
            # PostgreSQL's charm needs time to answer, so the request is written first.
            RequestBackend(ports.backend),
            # Pools may lead only to databases whose users exist.
            ReconcileAccess(
                ports.databases, ports.secrets, ports.clients, ports.peers, ports.new_password
            ),
            # Followers configure their processes from the plan that the leader shares here.
            share,
            ConfigurePooler(ports.pooler, ports.consoles, ports.peers),
            # Connections that the processes of the leader have just given up go to other units at once.
            share,
            Expose(ports.exposure, ports.peers),
            # Clients are told only what works already.
            PublishEndpoints(ports.databases, ports.clients, ports.new_password),
        )
        withdraw = WithdrawAccess(ports.databases, ports.peers)
        facts, departures = ports.facts, ports.departures

        self.start = Start(facts, ports.peers, converge)
        self.pebble_ready = PebbleReady(facts, converge)
        self.config_changed = ConfigChanged(facts, converge)
        self.update_status = UpdateStatus(facts, ports.databases, ports.peers, converge)
        self.leader_elected = LeaderElected(facts, converge)
        self.peers_created = PeersCreated(facts, ports.peers, converge)
        self.peers_changed = PeersChanged(facts, converge)
        self.peers_departed = PeersDeparted(facts, departures, withdraw, converge)
        self.backend_changed = BackendChanged(facts, converge)
        self.backend_departed = BackendDeparted(facts, departures, withdraw, converge)
        self.backend_broken = BackendBroken(facts, converge)
        self.backend_returned = BackendReturned(facts, converge)
        self.clients_changed = ClientsChanged(facts, converge)
        self.clients_departed = ClientsDeparted(facts, departures, converge)
        self.clients_broken = ClientsBroken(facts, converge)

        self.pause = Pause(facts, ports.consoles)
        self.resume = Resume(facts, ports.consoles)
