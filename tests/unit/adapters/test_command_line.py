"""The command line of `pooler` without its verbs: names, suggestions, help, the man page and exit codes."""

import ast
import pathlib
import re
import shlex

import pytest
import yaml

from domain.settings import ACCEPTS
from pooler.called import typed
from pooler.cli import main
from pooler.commandline import names
from pooler.commandline.examples import EXAMPLES
from pooler.commandline.manual import page
from pooler.commandline.parser import parse, parser
from pooler.commandline.suggest import suggestion
from pooler.commandline.variables import VARIABLES
from pooler.commandline.verb import actions, summary
from pooler.exit_codes import MEANINGS

ROOT = pathlib.Path(__file__).parents[3]
REFERENCE = (ROOT / "docs/reference.md").read_text()
VERBS = {name: verb for name, verb in parser().verbs.items() if summary(verb)}


def refusal(capsys, *words):
    """Return what a command line that is wrong prints."""
    with pytest.raises(SystemExit) as end:
        parse(words)
    assert end.value.code == 2
    return capsys.readouterr().err


# ---- the command, as a user types it ---------------------------------------------------------
@pytest.fixture
def place(tmp_path):
    script = tmp_path / "bin" / "pooler"
    script.parent.mkdir()
    script.write_text("")
    script.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("./pooler", "./pooler"),
        ("../clone/pooler", "../clone/pooler"),
        ("pooler", "./pooler"),
        ("{place}/bin/pooler", "pooler"),
        ("{place}/pooler", "~/pooler"),
        ("{place}/my files/pooler", "~/'my files/pooler'"),
        ("/opt/my files/pooler", "'/opt/my files/pooler'"),
    ],
)
def test_a_message_names_the_command_as_it_was_typed(place, script, told):
    environment = {"PATH": f"/nowhere:{place}/bin", "HOME": str(place)}
    assert typed(script.format(place=place), environment) == told


def test_help_names_the_command_as_it_was_typed(monkeypatch, capsys):
    monkeypatch.setenv("POOLER_COMMAND", "/opt/pooler")
    with pytest.raises(SystemExit):
        parse(["relate", "--help"])
    printed = capsys.readouterr().out
    assert "usage: /opt/pooler relate" in printed
    assert "\n  /opt/pooler relate shop " in printed


def test_every_message_of_a_command_to_run_is_printed_as_called():
    """`print` writes text as it stands; `print_line` of pooler.output names the command as it was typed."""
    wrong = []
    for path in sorted((ROOT / "src/pooler").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or ast.unparse(call.func) != "print":
                continue
            if any("`pooler " in ast.unparse(argument) for argument in call.args):
                wrong.append(f"{path.name}:{call.lineno}")
    assert wrong == []


# ---- words that are wrong --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("word", "meant"),
    [("stauts", "status"), ("cred", "credentials"), ("Relate", "relate"), ("x", ""), ("", "")],
)
def test_the_nearest_known_word_is_suggested(word, meant):
    assert suggestion(word, ["status", "relate", "restart", "resume", "credentials"]) == meant


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["stauts"], "there is no verb 'stauts': did you mean `pooler status`?"),
        (["xyzzy"], "there is no verb 'xyzzy'\n`pooler --help` lists the verbs"),
        (["--versoin"], "there is no option '--versoin': did you mean `--version`?"),
        (["up", "--unit", "2"], "there is no option '--unit': did you mean `--units`?"),
        (["up", "--units", "many"], "invalid int value: 'many'"),
        (["relate"], "the following arguments are required: name"),
        (["status", "now"], "argument 'now' is not expected here"),
        (["completion", "tcsh"], "invalid choice: 'tcsh'"),
    ],
)
def test_a_wrong_word_is_named_with_what_was_meant(words, told, capsys):
    assert told in refusal(capsys, *words)


def test_help_of_an_unknown_verb_suggests_a_verb(capsys):
    with pytest.raises(SystemExit) as end:
        main(["help", "stauts"])
    assert end.value.code == 2
    assert "did you mean `pooler status`?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["up", "--frob"], ["up", "--units", "x"], ["relate"]])
def test_a_wrong_argument_shows_the_usage_of_its_own_verb(words, capsys):
    printed = refusal(capsys, *words)
    assert f"usage: pooler {words[0]} " in printed
    assert f"`pooler {words[0]} --help` shows all arguments" in printed


@pytest.mark.parametrize(
    "words",
    [["pause", ""], ["resume", ""], ["restart", ""], ["rotate", ""], ["kill", "--user", ""]],
)
def test_an_empty_name_does_not_mean_all(words, capsys):
    assert "the name is empty: give a name, or leave it out" in refusal(capsys, *words)


def test_without_words_the_command_prints_its_help_as_an_error(capsys):
    assert refusal(capsys).startswith("usage: pooler ")


def test_settings_may_stand_before_and_after_an_option():
    arguments = parse(["up", "pool_mode=session", "--units", "2", "listen_port=7000"])
    assert arguments.settings == ["pool_mode=session", "listen_port=7000"]
    assert arguments.units == 2


# ---- help, examples and the man page ---------------------------------------------------------
def test_the_help_lists_verbs_variables_and_exit_codes(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    for word in (*VERBS, *VARIABLES, *map(str, MEANINGS)):
        assert re.search(rf"^ +{word} ", printed, re.MULTILINE), word
    assert "names" not in re.findall(r"^    (\w+) ", printed, re.MULTILINE)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_has_examples_that_its_parser_accepts(name):
    assert EXAMPLES[name]
    for words, _ in EXAMPLES[name]:
        # What follows is for a shell.
        command = re.split(r" [|>] ", words)[0]
        assert parse(shlex.split(command)).verb == name


@pytest.mark.parametrize("name", VERBS)
def test_every_argument_of_a_verb_has_a_help_text(name):
    silent = [action.dest for action in actions(VERBS[name]) if not action.help]
    assert silent == []


def test_the_man_page_has_every_verb_option_and_variable():
    text = page().replace("\\-", "-")
    options = {
        option
        for verb in VERBS.values()
        for action in actions(verb)
        for option in action.option_strings
        if action.dest != "help"
    }
    for word in (*VERBS, *options, *VARIABLES, *map(str, MEANINGS)):
        assert word in text
    # A line that begins with a point or an apostrophe is a request to roff.
    requests = set(re.findall(r"^[.'](\S*)", text, re.MULTILINE))
    known = {"TH", "SH", "SS", "TP", "PP", "B", "I", "RS", "RE", "EX", "EE", "ad", "nh"}
    assert requests <= known


# ---- the reference ---------------------------------------------------------------------------
def test_the_reference_has_the_exit_codes_of_the_command():
    rows = re.findall(r"^\| (\d+) \| ", REFERENCE, re.MULTILINE)
    assert rows == [str(code) for code in MEANINGS]


@pytest.mark.parametrize("name", VARIABLES)
def test_the_reference_has_a_variable_of_the_command(name):
    assert re.search(rf"^\| `{name}` \| ", REFERENCE, re.MULTILINE)


# ---- names for completion --------------------------------------------------------------------
def test_completion_knows_the_options_of_the_charm():
    assert names.options() == list(yaml.safe_load((ROOT / "config.yaml").read_text())["options"])
    assert sorted(names.options()) == sorted(ACCEPTS)


def test_a_name_that_a_shell_would_run_is_not_completed(tmp_path, monkeypatch):
    monkeypatch.setenv("POOLER_HOME", str(tmp_path))
    (tmp_path / "state.json").write_text(
        '{"model": {"units": {"pgbouncer/0": {}, "pgbouncer/$(id)": {}},'
        ' "clients": {"1": {"application": "shop"}, "2": {"application": "`id`"}}}}'
    )
    assert names.applications() == ["shop"]
    assert names.units() == ["0"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": {"clients": [], "units": 3}}'])
def test_completion_of_a_damaged_state_ends_without_a_message(text, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("POOLER_HOME", str(tmp_path))
    (tmp_path / "state.json").write_text(text)
    for kind in ("applications", "units"):
        arguments = parse(["names", kind])
        assert arguments.light(arguments) == 1
    assert capsys.readouterr() == ("", "")
