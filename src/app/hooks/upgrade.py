"""The actions pre-upgrade-check and resume-upgrade, which earlier charms need for a refresh."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class PreUpgradeCheck:
    """The action pre-upgrade-check: there is nothing to prepare."""

    def __call__(self) -> str:
        """Return what an operator has to do before a refresh."""
        return (
            "No preparation is needed. `juju refresh` replaces the units one after another, the highest"
            " number first, and goes on without resume-upgrade"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class ResumeUpgrade:
    """The action resume-upgrade: a refresh of this charm never waits for it."""

    def __call__(self) -> str:
        """Return what an operator has to do to continue a refresh."""
        return (
            "Nothing waits for this action. A refresh continues by itself once the new unit is ready. If it"
            " does not continue, `juju status` shows what is wrong with that unit"
        )
