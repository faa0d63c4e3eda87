"""The pages name every port, hook and intent, and only endpoints, actions and names that exist."""

import pathlib
import re

import pytest
import yaml

from adapters.memory import MemoryPlatform
from adapters.pebble.layer import LAYOUT
from app.application import Application
from app.ports import Ports

ROOT = pathlib.Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# Pages for people who change the code: a name in backticks is a name of the code.
OF_THE_CODE = [
    ROOT / "docs" / name
    for name in ("architecture.md", "how-to/contribute.md", "how-to/port.md", "how-to/test.md")
]
SOURCES = [
    *ROOT.glob("src/**/*.py"), *ROOT.glob("templates/*"), *ROOT.glob("packing/*"),
    *ROOT.glob("tests/**/*.py"), *ROOT.glob("docs/*.py"), *ROOT.glob("*.yaml"),
]  # fmt: skip
ENDPOINT = re.compile(r"pgbouncer-k8s:([a-z][a-z-]*)")
ACTION = re.compile(r"juju run pgbouncer-k8s/\S+ ([a-z-]+)([^\n`#]*)")
CODE = re.compile(r"`([^`\n]+)`")
# `ConfigurePooler`, `pool_mode`: no word of English.
IDENTIFIER = re.compile(r"\b(?:[A-Z][a-z]+(?:[A-Z][a-z]+)+|[a-z]\w*_\w*)\b")
# Stand-ins in PostgreSQL, whose number is added to a prefix.
COMPOSED = re.compile(r"pgbouncer_unknown_\d+")
PORT = (ROOT / "docs/how-to/port.md").read_text()
# Attributes of Application that are no hooks.
NO_HOOKS = {"reminder"}


def _name(page):
    return str(page.relative_to(ROOT))


def rows(text, heading):
    """Return the names in the first column of the table below a heading, in their order."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for column in first for name in CODE.findall(column)]


def test_the_page_about_ports_has_a_row_for_every_port():
    assert sorted(rows(PORT, "The ports")) == sorted(Ports._fields)


def test_the_page_about_ports_names_every_hook_and_action():
    unit = next(iter(MemoryPlatform(units=1).units.values()))
    hooks = set(vars(Application(unit.ports))) - NO_HOOKS
    section = PORT.partition("\n## The hooks\n")[2].partition("\n## ")[0]
    assert sorted(hooks - set(CODE.findall(section))) == []
    assert sorted(set(rows(PORT, "The hooks")) - hooks) == []


def test_the_architecture_lists_the_intents_in_their_order():
    called = []

    def keep(intent):
        called.append(type(intent).__name__)
        return intent

    unit = next(iter(MemoryPlatform(units=1).units.values()))
    Application(unit.ports, keep)
    every = called[: len(called) // called.count("RequestBackend")]
    page = (ROOT / "docs/architecture.md").read_text()
    assert rows(page, "Why every hook ends in the same state") == every


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_endpoints_and_actions_that_a_page_mentions_exist(page):
    metadata = yaml.safe_load((ROOT / "metadata.yaml").read_text())
    actions = yaml.safe_load((ROOT / "actions.yaml").read_text())
    endpoints = {name for kind in ("peers", "requires", "provides") for name in metadata[kind]}
    text = page.read_text().replace("\\\n", " ")
    wrong = [name for name in ENDPOINT.findall(text) if name not in endpoints]
    for action, rest in ACTION.findall(text):
        if action not in actions:
            wrong.append(action)
            continue
        known = actions[action].get("params", {})
        wrong += [name for name in re.findall(r" ([a-z-]+)=", rest) if name not in known]
    assert wrong == []


@pytest.mark.parametrize("page", OF_THE_CODE, ids=_name)
def test_names_of_the_code_that_a_page_mentions_exist(page):
    words = set(re.findall(r"\w+", "\n".join(file.read_text() for file in SOURCES)))
    words |= {file.stem for file in SOURCES}
    names = {name for code in CODE.findall(page.read_text()) for name in IDENTIFIER.findall(code)}
    assert sorted(name for name in names - words if not COMPOSED.fullmatch(name)) == []


def test_the_image_of_the_page_lets_the_user_of_the_container_write():
    container = yaml.safe_load((ROOT / "metadata.yaml").read_text())["containers"]["pgbouncer"]
    dockerfile = (ROOT / "docs/how-to/image.md").read_text()
    owner = f"-o {container['uid']} -g {container['gid']}"
    assert f"RUN install -d {owner} {LAYOUT.root}\n" in dockerfile
