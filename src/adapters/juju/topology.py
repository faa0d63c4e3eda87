"""Where the application is, in the terms of Juju and of the consumers of its metrics and logs."""

from typing import NamedTuple


class Topology(NamedTuple):
    """Where the application is, in the terms of Juju."""

    model: str
    model_uuid: str
    application: str
    charm: str

    @property
    def identifier(self) -> str:
        """Return a text that identifies the application in names of jobs and groups."""
        return f"{self.model}_{self.model_uuid[:8]}_{self.application}"

    @property
    def matchers(self) -> dict[str, str]:
        """Return the labels by which the series of the application are found."""
        return {
            "juju_model": self.model,
            "juju_model_uuid": self.model_uuid,
            "juju_application": self.application,
        }

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels of each rule."""
        return {**self.matchers, "juju_charm": self.charm}

    def of_logs(self, unit: str) -> dict[str, str]:
        """Return the labels of the log lines of a unit."""
        return {
            "product": "Juju",
            "charm": self.charm,
            **self.matchers,
            "juju_unit": unit,
            "job": f"juju_{self.identifier}",
        }

    def metadata(self, unit: str) -> dict[str, str]:
        """Return the topology with the keys of the interfaces."""
        return {
            "model": self.model,
            "model_uuid": self.model_uuid,
            "application": self.application,
            "unit": unit,
            "charm_name": self.charm,
        }


def bracketed(address: str) -> str:
    """Return an address as it stands before a port."""
    return f"[{address}]" if ":" in address else address
