"""The charm has everything of the charm that it replaces, and what a reviewer of Charmhub's listing looks at."""

import itertools
import pathlib
import re
import tomllib
import xml.etree.ElementTree as ET

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[3]


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


META, CONFIG, ACTIONS = read("metadata.yaml"), read("config.yaml"), read("actions.yaml")
REFERENCE = read("tests/data/reference.yaml")
ROLES = ("provides", "requires", "peers")
ENDPOINTS = [(role, name) for role in ROLES for name in REFERENCE["endpoints"][role]]


@pytest.mark.parametrize(("role", "name"), ENDPOINTS)
def test_every_endpoint_exists_with_its_interface_and_no_lower_limit(role, name):
    ours, theirs = META[role][name], REFERENCE["endpoints"][role][name]
    assert ours["interface"] == theirs["interface"]
    unlimited = float("inf")
    assert ours.get("limit", unlimited) >= theirs.get("limit", unlimited)


@pytest.mark.parametrize("name", REFERENCE["options"])
def test_every_option_exists_with_its_type_and_default(name):
    ours, theirs = CONFIG["options"][name], REFERENCE["options"][name]
    assert ours["type"] == theirs["type"]
    assert ours.get("default") in (theirs.get("default"), "" if "default" not in theirs else None)


@pytest.mark.parametrize("name", REFERENCE["actions"])
def test_every_action_exists_with_its_parameters(name):
    ours = {key: row["type"] for key, row in ACTIONS[name].get("params", {}).items()}
    assert ours.items() >= REFERENCE["actions"][name].items()
    assert not ACTIONS[name].get("required")


def test_a_refresh_finds_the_container_and_the_resource():
    assert META["name"] == REFERENCE["name"]
    assert set(REFERENCE["containers"]) <= META["containers"].keys()
    assert set(REFERENCE["resources"]) <= META["resources"].keys()


def test_no_action_takes_a_parameter_that_it_does_not_list():
    # Juju 4 has this default, and Juju 3 the opposite.
    assert all(action["additionalProperties"] is False for action in ACTIONS.values())


def test_every_endpoint_says_whether_it_is_optional():
    assert all(isinstance(row["optional"], bool) for role in ROLES for row in META[role].values())


def test_names_of_actions_are_in_lower_case_with_hyphens():
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in ACTIONS)


def test_the_listing_has_links_and_maintainers():
    for key in ("docs", "issues", "source", "website"):
        assert META[key].startswith("https://")
    assert all(re.fullmatch(r"[^<]+ <[^@ ]+@[^> ]+>", name) for name in META["maintainers"])
    assert META["display-name"]
    assert len(META["summary"]) < 80


def test_the_icon_is_a_circle_on_a_canvas_of_100_by_100():
    icon = ET.parse(ROOT / "icon.svg").getroot()
    assert (icon.get("width"), icon.get("height"), icon.get("viewBox")) == (
        "100",
        "100",
        "0 0 100 100",
    )
    circle = icon.find("{http://www.w3.org/2000/svg}circle")
    assert (circle.get("cx"), circle.get("cy"), circle.get("r")) == ("50", "50", "50")
    assert circle.get("fill").startswith("#")


def test_the_repository_has_the_pages_and_commands_of_a_listed_charm():
    assert all((ROOT / name).is_file() for name in ("CONTRIBUTING.md", "SECURITY.md", "LICENSE"))
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{name}:" in makefile for name in ("format", "lint", "unit", "integration"))
    assert "--hash=sha256:" in (ROOT / "requirements" / "charm.txt").read_text()


def test_the_commands_of_the_page_name_what_both_charms_have():
    page = (ROOT / "docs/how-to/replace.md").read_text()
    blocks = re.findall(r"^```shell juju\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    commands = [line.split() for block in blocks for line in block.splitlines()]
    run = [command[3] for command in commands if command[1] == "run"]
    assert set(run) == {"pre-upgrade-check", "resume-upgrade"} <= ACTIONS.keys()
    assert set(run) <= REFERENCE["actions"].keys()
    (refresh,) = (command for command in commands if command[1] == "refresh")
    assert refresh[2] == META["name"]
    given = dict(itertools.pairwise(refresh[3:]))
    assert given["--resource"].partition("=")[0] in META["resources"]
    bases = read("charmcraft.yaml")["platforms"]
    assert any(given["--base"] in str(base) for base in bases)
    # https://documentation.ubuntu.com/juju/latest/reference/juju-cli/list-of-juju-cli-commands/refresh
    options = {part for part in refresh if part.startswith("--")}
    assert options <= {"--path", "--base", "--trust", "--resource"}
