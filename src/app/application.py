"""The application: every hook of a unit, and the order of the intents that the hooks share."""

from collections.abc import Callable

from app.converge import Converge, Intent
from app.hooks.backend import BackendBroken, BackendChanged, BackendDeparted
from app.hooks.clients import ClientsBroken, ClientsChanged, ClientsDeparted
from app.hooks.config_changed import ConfigChanged
from app.hooks.inspect import Inspect
from app.hooks.legacy import LegacyChanged
from app.hooks.operate import Operate
from app.hooks.pebble_ready import PebbleReady
from app.hooks.peers import PeersChanged, PeersCreated, PeersDeparted
from app.hooks.private_key import SetPrivateKey
from app.hooks.relation_changed import RelationChanged
from app.hooks.rotate import GetCredentials, RotateCredentials, SecretRotate
from app.hooks.rotate_clients import RotateClients
from app.hooks.start import Start
from app.hooks.stop import Stop
from app.hooks.update_status import UpdateStatus
from app.hooks.upgrade import PreUpgradeCheck, ResumeUpgrade
from app.hooks.verify import Verify
from app.intents.apply_operations import ApplyOperations
from app.intents.configure_pooler import ConfigurePooler
from app.intents.continue_refresh import ContinueRefresh
from app.intents.expose import Checks, Expose
from app.intents.follow_reference import FollowReference
from app.intents.judge_pauses import JudgePauses
from app.intents.obtain_certificate import ObtainCertificate
from app.intents.publish_endpoints import PublishEndpoints
from app.intents.reconcile_access import ReconcileAccess
from app.intents.repeat_offers import RepeatOffers
from app.intents.request_backend import RequestBackend
from app.intents.rotate_own_users import RotateOwnUsers
from app.intents.run_exporters import FreePort, RunExporters
from app.intents.share_configuration import ShareConfiguration
from app.intents.share_passwords import SharePasswords
from app.intents.tell_observers import TellObservers
from app.intents.verify_servers import VerifyServers
from app.intents.withdraw_access import WithdrawAccess
from app.ports import Ports

# Returns an intent that runs in the place of another intent.
Around = Callable[[Intent], Intent]


class Application:
    """The hooks of a unit on a platform. Each attribute is a hook or an action: call it to run it."""

    def __init__(self, ports: Ports, around: Around | None = None) -> None:
        """Compose the hooks; `around` gets each intent, and returns what runs in its place."""
        # Only `verify` checks again what the records of this application say is done.
        converge = _intents(ports, around)
        verify = _intents(ports, around, verify=True, checks="everything", again=converge)
        # News of PostgreSQL says nothing about Kubernetes.
        servers = _intents(ports, around, verify=True, again=converge)
        # Kubernetes sends no event when another person edits the Service.
        looking = _intents(ports, around, checks="service", again=converge)
        # A unit that was removed during a refresh may have left a partition above every unit.
        fewer = _intents(ports, around, fewer=True, again=converge)
        withdraw = WithdrawAccess(ports.databases, ports.peers)
        facts, peers, departures = ports.facts, ports.peers, ports.departures

        self.start = Start(facts, peers, verify)
        self.stop = Stop(ports.rollout, departures)
        self.pebble_ready = PebbleReady(facts, verify)
        self.config_changed = ConfigChanged(facts, verify)
        self.update_status = UpdateStatus(facts, ports.databases, peers, looking)
        self.leader_elected = Verify(facts, verify)
        self.peers_created = PeersCreated(facts, peers, converge)
        self.peers_changed = PeersChanged(facts, converge)
        self.peers_departed = PeersDeparted(facts, departures, withdraw, fewer)
        self.backend_changed = BackendChanged(facts, converge, servers)
        self.backend_departed = BackendDeparted(facts, departures, withdraw, converge)
        self.backend_broken = BackendBroken(facts, converge)
        self.backend_returned = Verify(facts, servers)
        self.clients_changed = ClientsChanged(facts, converge)
        self.clients_departed = ClientsDeparted(facts, departures, converge)
        self.clients_broken = ClientsBroken(facts, converge)
        self.legacy_changed = LegacyChanged(facts, converge)
        self.certificates_changed = self.observers_changed = RelationChanged(facts, converge)
        self.observers_departed = ClientsDeparted(facts, departures, converge)

        self.set_private_key = SetPrivateKey(facts, ports.certificates)
        own = _rotate_own_users(ports)
        self.rotate_credentials = RotateCredentials(
            facts, own, RotateClients(ports.peers), converge
        )
        self.secret_rotate = SecretRotate(facts, own, converge)
        self.get_credentials = GetCredentials(facts, ports.secrets)

        operate = Operate(facts, peers, converge)
        self.pause, self.resume = operate.pause, operate.resume
        self.disable, self.enable = operate.disable, operate.enable
        self.restart, self.reconnect, self.kill = operate.restart, operate.reconnect, operate.kill
        inspect = Inspect(facts, ports.consoles)
        self.show, self.report = inspect.show, inspect.report
        # Goes on with the facts of a hook, for an action that waits.
        self.go_on = converge
        self.pre_upgrade_check = PreUpgradeCheck(facts, ports.databases, ports.rollout)
        self.resume_upgrade = ResumeUpgrade(facts, ports.rollout)
        # The driver of the hooks uses it for the outcome AskAgain.
        self.reminder = ports.reminder


def _rotate_own_users(ports: Ports) -> RotateOwnUsers:
    return RotateOwnUsers(ports.databases, ports.secrets, ports.peers, ports.new_password)


def _intents(
    ports: Ports,
    around: Around | None,
    *,
    verify: bool = False,
    checks: Checks = "nothing",
    fewer: bool = False,
    again: Converge | None = None,
) -> Converge:
    """Return all intents in their order.

    With `verify` they ask PostgreSQL and PgBouncer always; `checks` says what they ask Kubernetes always.
    `fewer` says that a unit has left.
    """
    share = ShareConfiguration(ports.peers, ports.databases)
    intents: tuple[Intent, ...] = (
        # PostgreSQL's charm needs time to answer, so the request is written first.
        RequestBackend(ports.backend),
        # The authority needs time to answer, too, and a pair that is kept here is served by this hook.
        ObtainCertificate(ports.certificates),
        # Pools may lead only to databases whose users exist.
        ReconcileAccess(
            ports.databases, ports.secrets, ports.clients, ports.peers, ports.new_password, verify
        ),
        # The plan names the auth user, and units report the auth user that they use.
        _rotate_own_users(ports),
        # Pools keep the former authorities of PostgreSQL until every endpoint is verified by the new authorities.
        VerifyServers(ports.databases, ports.peers, verify),
        # A pause that is not complete in time is not in the plan that is shared next.
        JudgePauses(ports.peers),
        # Followers configure their processes from the plan that the leader shares here.
        share,
        # An exporter may listen at the new port of the processes.
        FreePort(ports.exporters),
        ConfigurePooler(ports.pooler, ports.consoles, ports.peers, verify),
        # Processes that were just started are paused, too.
        ApplyOperations(ports.pooler, ports.consoles, ports.peers),
        # Canonical's charm, if it ran here, waits for what this unit serves now.
        FollowReference(ports.databases, ports.replaced, ports.rollout),
        # Connections that the processes of the leader have just given up go to other units at once.
        share,
        Expose(ports.exposure, ports.peers, checks),
        # Clients are told only what works already.
        PublishEndpoints(ports.databases, ports.clients, ports.peers, ports.new_password),
        # A client has a password when its connection information is published.
        SharePasswords(ports.clients, ports.secrets),
        # A client at `db` or `db-admin` reads the databag of any unit.
        RepeatOffers(ports.clients),
        # Exporters follow the processes that run now. Nothing waits for exporters.
        RunExporters(ports.exporters),
        # Clients do not wait for the refresh of the next unit.
        ContinueRefresh(ports.rollout, ports.pooler, looks=fewer or checks == "everything"),
        # Observers follow what this hook has decided. Clients do not wait for them.
        TellObservers(ports.telemetry, ports.peers, verify),
    )
    return Converge(*(map(around, intents) if around else intents), again=again)
