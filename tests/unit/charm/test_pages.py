"""The commands of Juju on the pages, read from the pages, and run in order on a unit under Scenario.

- An action runs. A parameter that the action does not have, and an action that fails, fail the test.
- Options are set. An option that the charm does not have, and a value that it refuses, fail the test.
- Of relations the endpoint is compared with metadata.yaml.
- Of all other commands the options are compared with those that Juju has.
"""

import pathlib
import re
import shlex

import pytest
import yaml
from on_juju import ACTIONS, SHOP
from ops import testing

from pages.blocks import blocks

ROOT = pathlib.Path(__file__).parents[3]
APP = "pgbouncer-k8s"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
OPTIONS = yaml.safe_load((ROOT / "config.yaml").read_text())["options"]
META = yaml.safe_load((ROOT / "metadata.yaml").read_text())
URI = "secret:d9gk2v3c7g7s7c9vbqeg"
ENDPOINTS = {*META["requires"], *META["provides"]}
# The actions that are about the unit on which they run.
ON_A_UNIT = {"show", "report", "set-tls-private-key"}
# Commands whose effects other tests have, with the options that pages use.
# https://documentation.ubuntu.com/juju/latest/reference/juju-cli/list-of-juju-cli-commands/
OTHER = {
    "add-unit": set(),
    "attach-resource": set(),
    "deploy": {"--trust", "--resource"},
    "offer": set(),
    "refresh": {"--path", "--base", "--trust", "--resource"},
    "remove-application": set(),
    "ssh": {"--container"},
    "status": set(),
    "switch": set(),
    "trust": {"--scope"},
}
COMMENT = re.compile(r"(?:^|\s)#\s.*$", re.MULTILINE)
# A word in capital letters before `=` stands for a name.
INLINE = re.compile(rf"`(juju (?:run|config) {APP}(?![^`]* [A-Z]+=)[^`…]*)`")


def commands(path):
    """Return the commands of Juju in the blocks of a page, each as a list of words."""
    found, text = [], path.read_text()
    for block in blocks(text):
        if (block.language, block.mark) == ("shell", "juju"):
            found += in_shell("\n".join(block.lines))
    return found


def in_shell(text):
    """Return the commands of Juju in a text of a shell; a line break or a pipe ends a command."""
    words = shlex.shlex(COMMENT.sub("", text), posix=True, punctuation_chars="\n|")
    words.whitespace, words.whitespace_split, words.commenters = " \t", True, ""
    found = [[]]
    for word in words:
        if set(word) <= {"\n", "|"}:
            found.append([])
        else:
            found[-1].append(word)
    return [line[1:] for line in found if line[:1] == ["juju"]]


def pairs(words):
    """Return the values of `name=value`. Raises ValueError for another word."""
    return dict(word.split("=", 1) for word in words)


def typed(kind, text):
    """Return a value as Juju reads it for a parameter or an option of this type."""
    return text if kind == "string" else yaml.safe_load(text)


class Reader:
    """A reader who types the commands of a page; the unit is the leader and serves the application shop."""

    def __init__(self, juju):
        self.juju, self.secret = juju, {}
        self.juju.client("shop", SHOP)

    def types(self, words):
        """Run a command."""
        name, *rest = words
        act = getattr(self, name.replace("-", "_"), None)
        if act is not None and name not in OTHER:
            act(*rest)
            return
        assert name in OTHER, f"no such command, or it has no row here: juju {name}"
        options = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert options <= OTHER[name], f"juju {name} has no option {options - OTHER[name]}"
        for word in rest:
            resource, given, _ = word.partition("=")
            assert not given or word.startswith("--") or resource in META["resources"], word

    def run(self, target, name, *words):
        """Run an action of this charm. Raises testing.ActionFailed."""
        application, _, unit = target.partition("/")
        if application != APP:
            return
        assert name in ACTIONS, f"no action {name}"
        assert unit == "leader" or name in ON_A_UNIT, f"{name} runs on {target}"
        known = ACTIONS[name].get("params", {})
        given = {key: typed(known[key]["type"], text) for key, text in pairs(words).items()}
        if "private-key" in given:
            # The file of the reader, `$(cat key.pem)`.
            given["private-key"] = ""
        defaults = {key: row["default"] for key, row in known.items() if "default" in row}
        event = self.juju.context.on.action(name, params=defaults | given)
        try:
            self.juju.emit(event)
        except testing.ActionFailed as error:
            # The unit under Scenario has no authority and no refresh: there are tests of their own.
            if not re.search("certificates|refresh", error.message):
                raise
        self.results = dict(self.juju.context.action_results or {})
        self.juju.emit(self.juju.context.on.update_status())

    def config(self, application, *words):
        """Set or reset options of this charm."""
        assert application == APP
        if words[0] == "--reset":
            assert set(words[1].split(",")) <= OPTIONS.keys(), words[1]
            return
        given = pairs(words)
        assert given.keys() <= OPTIONS.keys(), f"no option {given.keys() - OPTIONS.keys()}"
        config = {key: typed(OPTIONS[key]["type"], text) for key, text in given.items()}
        if "system-users" in config:
            assert self.secret["granted"] == APP
            secret = testing.Secret(self.secret["content"], id=URI, owner=None)
            self.juju.change(secrets={*self.juju.state.secrets, secret})
            config["system-users"] = secret.id
        self.juju.options(**config)
        said = self.juju.state.unit_status.message
        # The unit under Scenario has no authority, which a page has related before.
        refused = any(name in said for name in given) and "no relation certificates" not in said
        assert not refused, said

    def add_secret(self, name, *words):
        """Keep a secret of the reader."""
        self.secret = {"name": name, "content": pairs(words)}

    def grant_secret(self, name, application):
        """Let an application read the secret."""
        assert name == self.secret["name"]
        self.secret["granted"] = application

    def show_secret(self, option, secret):
        """Look at a secret, whose ID an action has returned or `juju secrets` lists."""
        assert option == "--reveal"
        assert "juju secrets --format=json" in secret or self.juju.secret(
            self.results["secret-id"]
        )

    def integrate(self, first, second):
        """Relate this application at an endpoint that it has, or two other applications."""
        for word in (first, second):
            application, _, endpoint = word.partition(":")
            assert application != APP or not endpoint or endpoint in ENDPOINTS, word

    remove_relation = integrate


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Let actions not sleep."""
    monkeypatch.setattr("adapters.juju.operate_actions._LOOK_SECONDS", 0.01)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if commands(page)],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_commands_of_juju_on_a_page_work(related, page):
    reader = Reader(related)
    for words in commands(page):
        reader.types(words)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if INLINE.search(page.read_text())],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_commands_of_juju_in_the_sentences_of_a_page_work(related, page):
    reader = Reader(related)
    for text in INLINE.findall(page.read_text()):
        for words in in_shell(text):
            reader.types(words)


@pytest.mark.parametrize(
    "text",
    [
        f"juju run {APP}/leader rotate",
        f"juju run {APP}/0 rotate-credentials",
        f"juju run {APP}/leader rotate-credentials hours=1",
        f"juju run {APP}/leader rotate-credentials valid-hours=1000",
        f"juju run {APP}/leader disable database=nosuch",
        f"juju config {APP} pool-mode=session",
        f"juju config {APP} pool_mode=sideways",
        f"juju config {APP} --reset nosuch",
        f"juju integrate {APP}:nosuch other",
        f"juju refresh {APP} --paht x",
        "juju deploy x --resource other-image=y",
        "juju rotate",
    ],
)
def test_a_command_that_juju_or_the_charm_refuses_fails(related, text):
    reader = Reader(related)
    ((*words,),) = in_shell(text)
    with pytest.raises((AssertionError, KeyError, testing.ActionFailed)):
        reader.types(words)
