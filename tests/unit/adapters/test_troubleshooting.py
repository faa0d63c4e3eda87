"""The pages for a bad night explain what clients read, and their commands hold in any model."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[3]
TROUBLESHOOT = (ROOT / "docs/how-to/troubleshoot.md").read_text()
CLIENT_READS = TROUBLESHOOT.partition("## A client reads")[2].partition("\n## ")[0]

JUJU_BLOCK = re.compile(r"^```shell juju\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Images that lack what README marks with a later version of PgBouncer.
OLD_IMAGE = re.compile(r"charmed-pgbouncer:1\.(?:1\d|2[0-2])\b")


@pytest.mark.parametrize(
    "error",
    [
        "Connection refused",
        "SASL authentication failed",
        "no such user",
        "query_wait_timeout",
        "server login has been failing, cached error",
        "no more connections allowed (max_client_conn)",
        "client_login_timeout",
        "query timeout",
        "idle transaction timeout",
        "unsupported startup parameter",
        "server closed the connection unexpectedly",
    ],
)
def test_an_error_that_a_client_reads_is_explained_with_what_to_do(error):
    rows = [row for row in CLIENT_READS.splitlines() if row.startswith("|") and error in row]
    assert rows
    assert all(cell.strip() for cell in rows[0].strip("|").split(" | "))


def test_the_search_for_the_secret_holds_beside_secrets_without_a_label():
    labels = re.findall(r"\.value\.label[^|)]*", TROUBLESHOOT)
    assert labels
    assert all('// ""' in label for label in labels)


def test_the_commands_of_the_readme_deploy_no_image_that_lacks_its_promises():
    commands = "".join(JUJU_BLOCK.findall((ROOT / "README.md").read_text()))
    assert "pgbouncer-image=" in commands
    assert not OLD_IMAGE.search(commands)


def test_the_pages_tell_that_users_of_the_server_can_log_in_through_the_pool():
    for page in ("docs/how-to/laptop.md", "docs/how-to/operate.md"):
        assert "can log in through the pool" in (ROOT / page).read_text().replace("also ", "")
