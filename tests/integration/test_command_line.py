"""The script `pooler` as a user calls it: paths, the first run, interruption, pipes and completion."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from platform_under_test import COMMAND, Pooler

from pooler.store import State, Store

ROOT = pathlib.Path(__file__).parents[2]
SHELLS = [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell)]
FORMATTERS = [name for name in ("man", "mandoc") if shutil.which(name)]
STATE = {
    "model": {
        "units": {"pgbouncer/0": {"address": "127.0.0.2"}},
        "clients": {"1": {"application": "shop", "database": "shop"}},
    }
}


@pytest.fixture(scope="module")
def clone():
    """A clone in a directory with a space, whose packages are those of this interpreter."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="a clone-", dir="/tmp"))
    folder.chmod(0o755)
    for name in ("pooler", "pyproject.toml", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("src", "requirements", "templates"):
        shutil.copytree(ROOT / name, folder / name)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    # A link would make a virtual environment without packages.
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (programs / "python").chmod(0o755)
    (folder / ".venv" / "ready").touch()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def run(command, home, *words, **options):
    environment = os.environ | {"POOLER_HOME": str(home)} | options.pop("env", {})
    return subprocess.run(
        [command, *words],
        check=False,
        **{"capture_output": True, "text": True, "env": environment, "timeout": 120} | options,
    )


# ---- paths -----------------------------------------------------------------------------------
def test_a_link_to_the_script_works_from_any_directory(clone, home, tmp_path):
    link = tmp_path / "a link"
    link.symlink_to(clone / "pooler")
    for command, folder, told in (
        ("./pooler", clone, "./pooler"),
        ("./a link", tmp_path, "'./a link'"),
        (str(clone / "pooler"), "/", f"'{clone}/pooler'"),
    ):
        done = run(command, home, "pause", cwd=folder)
        assert done.returncode == 1
        assert done.stderr == f"pooler: no unit exists on this machine: run `{told} up` first\n"


def test_the_name_is_enough_if_the_path_has_a_link(clone, home, tmp_path):
    (tmp_path / "pooler").symlink_to(clone / "pooler")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = run("sh", home, "-c", "pooler pause", cwd="/", env={"PATH": path})
    assert "run `pooler up` first" in done.stderr


def test_no_module_of_the_user_replaces_a_module_of_the_command(clone, home, tmp_path):
    for folder in ("here", "path"):
        (tmp_path / folder).mkdir()
        for name in ("pooler", "pydantic", "argparse"):
            (tmp_path / folder / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    environment = {"PYTHONPATH": str(tmp_path / "path")}
    done = run(clone / "pooler", home, "pause", cwd=tmp_path / "here", env=environment)
    assert "no unit exists on this machine" in done.stderr


# ---- the first run ---------------------------------------------------------------------------
@pytest.fixture
def new_clone(clone, tmp_path):
    """A clone that has never run."""
    folder = tmp_path / "new clone"
    shutil.copytree(clone, folder, ignore=shutil.ignore_patterns(".venv"))
    # Another user has to reach it.
    for parent in (folder, *folder.parents[:5]):
        if parent.owner() == folder.owner() and parent != pathlib.Path(tempfile.gettempdir()):
            parent.chmod(0o755)
    return folder


OFFLINE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/",
    "PIP_RETRIES": "0",
    "PIP_CONFIG_FILE": "/dev/null",
}


@pytest.mark.long
def test_the_first_run_installs_packages_and_explains_why_it_cannot(new_clone, home):
    requirements = new_clone / "requirements" / "local.txt"
    requirements.write_text(f"nothing-of-this-name==1.0 --hash=sha256:{'0' * 64}\n")
    failed = run(new_clone / "pooler", home, "--version", env=OFFLINE)
    assert failed.returncode == 1
    assert "pip cannot install the packages: check that this machine reaches" in failed.stderr
    assert f"The first message of pip in {new_clone}/.venv/pip.log: " in failed.stderr
    assert "Traceback" not in failed.stderr
    # No package is needed to print the version.
    requirements.write_text("# nothing\n")
    first = run(new_clone / "pooler", home, "--version", env=OFFLINE)
    assert first.returncode == 0
    assert first.stdout.startswith("pooler 0.")
    assert first.stderr == (
        f"Installing the packages of {requirements} into {new_clone}/.venv:"
        " this takes up to a minute, once\n"
    )
    second = run(new_clone / "pooler", home, "--version", env=OFFLINE)
    assert (second.stdout, second.stderr) == (first.stdout, "")


def test_a_clone_of_another_user_is_named_with_what_to_do(new_clone, home):
    new_clone.chmod(0o555)
    try:
        other = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        done = run(new_clone / "pooler", home, "--version", **other)
    finally:
        new_clone.chmod(0o755)
    assert done.returncode == 1
    assert f"cannot use or change {new_clone}/.venv" in done.stderr
    assert "clone the repository into a directory of your own" in done.stderr


# ---- interruption and pipes ------------------------------------------------------------------
def start(home, *words, **options):
    environment = os.environ | {"POOLER_HOME": str(home), "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [*COMMAND, *words],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        | options
        | {"env": environment | options.pop("env", {})},
    )


def test_an_interrupted_change_says_how_to_continue(home, tmp_path):
    slow = tmp_path / "pgbouncer"
    slow.write_text(f"#!/bin/sh\ntouch {tmp_path}/began\nsleep 60\n")
    slow.chmod(0o755)
    process = start(home, "up", env={"PGBOUNCER": str(slow)})
    end = time.monotonic() + 60
    while not (tmp_path / "began").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted: run `pooler up` again to continue\n")


def test_a_command_that_waits_for_another_command_is_interrupted_silently(home):
    with Store(home).locked(lambda _: None):
        process = start(home, "up")
        assert "another pooler command is running" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")


def unread(home, *words):
    """Run a command whose output is read by no process, and return its exit code and its errors."""
    reader, writer = os.pipe()
    os.close(reader)
    process = start(home, *words, stdout=writer)
    os.close(writer)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("words", [["--help"], ["config"], ["config", "--json"], ["man"]])
def test_a_reader_that_ends_first_causes_no_message(words, home):
    with Store(home).locked(lambda _: None):
        Store(home).save(State())
    assert unread(home, *words) == (141, "")


def test_a_change_goes_on_if_the_reader_of_its_messages_ends(home):
    with Store(home).locked(lambda _: None):
        Store(home).save(State())
    assert unread(home, "down") == (0, "")


def test_output_that_cannot_be_written_is_an_error(home):
    with open("/dev/full", "w") as full:
        process = start(home, "--help", stdout=full)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said == "pooler: the output cannot be written: No space left on device\n"


def test_a_home_that_cannot_be_made_is_named_with_the_variable(tmp_path):
    (tmp_path / "file").touch()
    done = run(
        sys.executable, "/proc/none", *COMMAND[1:], "down", env={"PYTHONPATH": str(ROOT / "src")}
    )
    assert done.returncode == 1
    assert "pooler: /proc/none: " in done.stderr


# ---- start-up --------------------------------------------------------------------------------
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["names", "units"], ["help", "up"]])
def test_help_and_completion_start_without_heavy_modules(words, home):
    code = (
        "import sys\n"
        "from pooler import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'psycopg', 'jinja2', 'wiring', 'rich', 'shtab', 'subprocess'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    environment = {"PYTHONPATH": str(ROOT / "src")}
    done = run(sys.executable, home, "-P", "-c", code, *words, env=environment)
    assert done.stderr in {"[]\n", "['subprocess']\n" if words == ["--version"] else "[]\n"}


# ---- options ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pooler():
    pooler = Pooler()
    pooler("up", f"listen_port={pooler.port}")
    yield pooler
    pooler.close()


def test_an_option_is_read_set_and_reset(pooler):
    assert pooler("config", "pool_mode") == "session\n"
    pooler("config", "pool_mode=transaction", "max_db_connections=50")
    assert pooler("config", "pool_mode") == "transaction\n"
    pooler("config", "--reset", "pool_mode", "query_timeout=7")
    values = json.loads(pooler("config", "--json"))
    assert (values["pool_mode"], values["max_db_connections"]) == ("session", 50)
    assert (values["query_timeout"], values["server_reset_query_always"]) == (7, False)
    assert pooler("config", "--json", "query_timeout") == "7\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["config", "pool_mod"], "unknown option pool_mod: did you mean `pool_mode`?"),
        (["config", "--reset", "pool_mod"], "did you mean `pool_mode`?"),
        (["config", "maxdbconnections=5"], "did you mean `max_db_connections`?"),
        (["config", "colour=red"], "unknown option colour: choose from listen_port, "),
        (["config", "pool_mode", "listen_port"], "shows a single option"),
        (["config", "pool_mode=session", "--json"], "--json shows options"),
        (["config", "pool_mode=session", "--reset", "pool_mode"], "pool_mode is set and reset"),
        (["credentials", "deno"], "'deno' is not related: did you mean `demo`?"),
        (["credentials", "zebra"], "run `pooler relate zebra`, or choose from demo"),
        (["restart", "7"], "unit '7' does not exist: choose from pgbouncer/0"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest_and_changes_nothing(pooler, words, told):
    before = pooler("config", "--json")
    done = pooler.run(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert pooler("config", "--json") == before


@pytest.mark.parametrize("words", [["top", "--every", "0.2"], ["logs", "--follow"]])
def test_a_view_that_is_interrupted_ends_silently(pooler, words):
    process = start(pooler.home, *words)
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")


def test_a_login_that_fails_is_told_with_what_to_check(pooler, home):
    server = json.loads((pooler.home / "state.json").read_text())["server"]
    for address, cure in (
        (f"pooler@127.0.0.1:{server['port']}", "; set $PGPASSWORD to the password of that user"),
        ("u@127.0.0.1:1", "; start the server, or check the host and the port in --backend"),
        ("u@no-host.invalid", "; check the host in --backend"),
    ):
        process = start(
            home, "up", "--backend", f"postgresql://{address}", env={"PGPASSWORD": "wrong"}
        )
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert said.startswith("pooler: PostgreSQL says: ")
        assert said.endswith(f"{cure}\n")


# ---- completion and the man page -------------------------------------------------------------
CASES = [
    ("rel", {"relate"}, {"restart"}),
    ("up --", {"--units", "--backend"}, {"--json"}),
    ("config max_", {"max_db_connections", "max_packet_size"}, {"pool_mode"}),
    ("config pool_mode=", set(), {"listen_port", "shop"}),
    ("config --reset max_", {"max_db_connections"}, {"pool_mode"}),
    ("credentials ", {"shop"}, {"NAME"}),
    ("relate ", set(), {"shop"}),
    ("restart ", {"0"}, {"shop"}),
    ("help rel", {"relate"}, {"names"}),
    ("completion ", {"bash", "zsh", "fish"}, {"tcsh"}),
]
BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_pooler; printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = 'source $argv[1]; complete -C "$argv[2]"'
ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PROMPT=; stty cols 200; autoload -U compinit; compinit -u -D; LISTMAX=0'
zpty -w shell 'eval "$(cat '$1')"; print rea""dy'
while zpty -r shell line; do [[ $line == *ready* ]] && break; done
zpty -n -w shell "$2"$'\\t\\t\\t'
sleep 3
while zpty -r -t shell line; do print -r -- $line; done
zpty -d shell
"""


def completions(shell, script, command, line, home, folder):
    """Return the words that a shell proposes after the command and the beginning of a line."""
    file = folder / "script"
    file.write_text(script)
    if shell == "bash":
        # Bash takes `=` as a word.
        words = ["-c", BASH, "bash", str(file), command, *line.replace("=", " = ").split(" ")]
    elif shell == "fish":
        words = ["--no-config", "-c", FISH, str(file), f"{command} {line}"]
    else:
        words = ["-f", "-c", ZSH, "zsh", str(file), f"{command} {line}"]
    done = run(shell, home, *words, cwd=folder, env={"HOME": str(folder)})
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", done.stdout)
    return {word.rstrip("=") for word in text.split()}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("line", "there", "not_there"), CASES)
def test_a_shell_completes_verbs_options_and_names(
    shell, line, there, not_there, clone, home, tmp_path
):
    home.mkdir()
    (home / "state.json").write_text(json.dumps(STATE))
    # The command that completes is the command on the line, here a link.
    (tmp_path / "pooler").symlink_to(clone / "pooler")
    script = run(clone / "pooler", home, "completion", shell)
    assert script.returncode == 0
    found = completions(shell, script.stdout, "./pooler", line, home, tmp_path)
    assert there <= found
    assert not not_there & found


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_the_man_page_is_formatted_without_a_warning(formatter, clone, home, tmp_path):
    page = tmp_path / "pooler.1"
    page.write_text(run(clone / "pooler", home, "man").stdout)
    words = ["--warnings", "-l", page] if formatter == "man" else ["-Tlint", page]
    done = run(formatter, home, *words, env={"MANPAGER": "cat", "LC_ALL": "C.UTF-8"})
    assert done.stderr == ""
    assert "relate" in done.stdout
