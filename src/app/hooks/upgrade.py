"""The actions pre-upgrade-check and resume-upgrade, around a refresh of the application."""

import dataclasses

from app.errors import ActionFailed, RolloutFailed, RolloutForbidden
from app.hooks.update_status import probed_servers
from app.leader_only import check_leads
from app.ports import Databases, FactsSource, Rollout
from domain import refresh
from domain.refresh import RollingUpdate


@dataclasses.dataclass(frozen=True, slots=True)
class PreUpgradeCheck:
    """The action pre-upgrade-check: whether a refresh may begin, and what stops a release that fails.

    It changes nothing.
    """

    source: FactsSource
    databases: Databases
    rollout: Rollout

    def __call__(self) -> dict[str, object]:
        """Return what protects the refresh. Raises ActionFailed with every reason not to begin now."""
        facts = self.source.read()
        check_leads(facts, "pre-upgrade-check")
        reasons = list(refresh.obstacles(facts))
        login = facts.backend.credentials
        if probed_servers(facts) and login and not self.databases.answers(login):
            reasons.append("PostgreSQL does not answer")
        gate = refresh.GATE_WITHOUT_TRUST.format(application=facts.application)
        try:
            update = self.rollout.adjust(refresh.unchanged)
        except RolloutForbidden:
            pass
        except RolloutFailed as error:
            reasons.append(str(error))
        else:
            gate = refresh.GATE
            reasons.extend(refresh.obstacles_in_kubernetes(update))
        if reasons:
            raise ActionFailed("; ".join(reasons))
        units = len(facts.plan.members) if facts.plan else 1
        if units == 1:
            gate += refresh.SINGLE_UNIT.format(application=facts.application)
        return {"message": f"ready for `juju refresh {facts.application}`", "gate": gate}


@dataclasses.dataclass(frozen=True, slots=True)
class ResumeUpgrade:
    """The action resume-upgrade: how a refresh goes on, and the next unit if a unit holds it back."""

    source: FactsSource
    rollout: Rollout

    def __call__(self, *, force: bool = False) -> str:
        """Return what happens now. Raises ActionFailed if the refresh should not go on, unless `force` is true."""
        facts = self.source.read()
        check_leads(facts, "resume-upgrade")
        application = facts.application

        def decide(update: RollingUpdate) -> int | None:
            return refresh.resume(update) if force or update.all_ready else None

        try:
            before = self.rollout.adjust(decide)
        except RolloutForbidden as error:
            raise ActionFailed(
                f"Kubernetes does not show the refresh to this application: {error}. Without that, Kubernetes goes"
                " on when the pod of the new unit is ready"
            ) from None
        except RolloutFailed as error:
            raise ActionFailed(str(error)) from None
        if not before.held and not (before.under_way and before.known):
            return "no refresh is under way"
        if not before.held:
            done = f"{before.refreshed} of {before.replicas} units are refreshed"
            return f"{done}: Kubernetes goes on by itself"
        if decide(before) is None:
            raise ActionFailed(
                f"{refresh.why_not_next(before, application)}: `juju status {application}` shows more. Go back by"
                f" `juju refresh` to the release before, or let {application}/{refresh.resume(before)} be"
                f" refreshed, too, by `juju run {application}/leader resume-upgrade force=true`"
            )
        return f"{application}/{decide(before)} is refreshed next"
