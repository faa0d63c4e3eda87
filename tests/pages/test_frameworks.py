"""The code of docs/how-to/frameworks.md connects, and soon after the first command of a new user."""

import os
import subprocess
import time

import pytest
from platform_under_test import COMMAND, Pooler

from pages.frameworks import examples, path, write
from pooler import binaries

# A single worker of xdist runs them all, so each fixture is made once.
pytestmark = pytest.mark.xdist_group("frameworks")

EXAMPLES = examples()
# Seconds from `pooler up` to the first queries of these frameworks, on a machine that has all programs.
SECONDS = 60
FIRST = ["SQLAlchemy", "Django", "node-postgres", "pgx"]
# The name of a database with each kind of special character that PgBouncer accepts.
DATABASE = "Shop-2.of_A"


@pytest.fixture(scope="module", params=["session", "transaction"])
def pooler(request):
    pooler = Pooler(PATH=path())
    pooler.up(f"pool_mode={request.param}")
    pooler("relate", "shop", "--database", DATABASE)
    yield pooler
    pooler.close()


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """The directory of each example, by its name."""
    folders = {name: tmp_path_factory.mktemp("project") for name in EXAMPLES}
    for name, folder in folders.items():
        write(EXAMPLES[name], folder)
    return folders


def execute(pooler, folder, application, words):
    """Run a command as an application, in a directory, and return what it prints."""
    done = subprocess.run(
        [*COMMAND, "exec", application, "--", *words],
        cwd=folder,
        env=pooler.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_framework_that_the_page_names_has_an_example():
    assert [*EXAMPLES] == [
        "SQLAlchemy", "Django", "psycopg", "asyncpg", "node-postgres", "JDBC", "pgx",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "Django"])
def test_an_example_connects_as_the_page_says(pooler, projects, name):
    user = pooler.credentials("shop")["username"]
    said = execute(pooler, projects[name], "shop", EXAMPLES[name].command)
    assert said == f"{user} in {DATABASE}\n"


def test_django_migrates_and_iterates_over_a_table(pooler, projects):
    folder = projects["Django"]
    assert "Applying auth.0001_initial... OK" in execute(
        pooler, folder, "shop", EXAMPLES["Django"].command
    )
    script = """
from django.contrib.auth.models import User
User.objects.bulk_create(User(username=f"user{number}") for number in range(300))
print(len({user.username for user in User.objects.iterator(chunk_size=10)}))
"""
    said = execute(pooler, folder, "shop", ["python", "manage.py", "shell", "-c", script])
    assert said.splitlines()[-1] == "300"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("psycopg", None),
        ("asyncpg", None),
        ("pgx", None),
        ("SQLAlchemy", "invalid literal for int()"),
        ("node-postgres", "Invalid URL"),
    ],
)
def test_a_uri_with_several_hosts_is_read_as_the_page_says(pooler, projects, name, error):
    done = subprocess.run(
        EXAMPLES[name].command,
        cwd=projects[name],
        env=pooler.environment | {"DATABASE_URL": pooler.credentials("shop")["libpq-uri"]},
        capture_output=True,
        text=True,
        check=False,
    )
    if error is None:
        assert done.stdout.endswith(f" in {DATABASE}\n"), done.stderr
    else:
        assert error in done.stderr


def test_frameworks_connect_within_a_minute_of_the_first_command(projects, capsys):
    program = binaries.pgbouncer(binaries.default_cache(), print)
    pooler = Pooler(PATH=path(), PGBOUNCER=str(program))
    took = []
    begin = before = time.monotonic()
    try:
        pooler("up", f"listen_port={pooler.port}")
        for name in ("up", *FIRST):
            if name != "up":
                execute(pooler, projects[name], "demo", EXAMPLES[name].command)
            now = time.monotonic()
            took.append(f"{name} {now - before:.1f} s")
            before = now
        seconds = before - begin
    finally:
        pooler.close()
    with capsys.disabled():
        print(f"\nfrom `pooler up` to the first queries: {seconds:.1f} s ({', '.join(took)})")
    assert seconds < SECONDS, f"{took} on {os.cpu_count()} processors"
