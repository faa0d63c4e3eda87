"""docs/alerts.md has what the rows of the alerts say."""

import importlib.util
import pathlib

import yaml

from domain.rules import DOCS

ROOT = pathlib.Path(__file__).parents[3]


def _page():
    """Return the page that docs/alerts.py writes."""
    spec = importlib.util.spec_from_file_location("alerts_page", ROOT / "docs/alerts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.page()


def test_the_page_of_alerts_is_the_written_page():
    # If this fails: PYTHONPATH=src python docs/alerts.py
    assert (ROOT / "docs/alerts.md").read_text() == _page()


def test_addresses_of_runbooks_begin_with_the_link_to_the_documentation():
    metadata = yaml.safe_load((ROOT / "metadata.yaml").read_text())
    assert metadata["docs"] == DOCS
