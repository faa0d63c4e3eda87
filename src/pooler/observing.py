"""Tell Prometheus which exporters run, and the rules for the options of the application."""

from __future__ import annotations

from domain.settings import Settings, settings_from
from pooler import exporters
from pooler.platform import LocalPlatform
from pooler.prometheus import Prometheus


def configure(platform: LocalPlatform) -> None:
    """Write the configuration of Prometheus. Raises OSError."""
    settings, _ = settings_from(platform.model.options)
    Prometheus(platform.store).configure(
        exporters.kept(platform), _groups(settings or Settings()), platform.model.application
    )


def refresh(platform: LocalPlatform) -> None:
    """Write the configuration again if `pooler observe` has ever written it."""
    if Prometheus(platform.store).directory.exists():
        configure(platform)


def _groups(_: Settings) -> list[dict[str, object]]:
    return []
