"""Times in a view are short, and programs that read JSON do not wait for rich."""

import json
import subprocess
import sys

import pytest

from pooler.views.text import duration


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0123, "0.012 s"), (12.3, "12.30 s"), (123.46, "123.4 s"), (7200.0, "7200 s")],
)
def test_a_time_is_short(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize("words", [["status", "--json"], ["top", "--once", "--json"], ["--help"]])
def test_programs_that_read_json_do_not_wait_for_rich(tmp_path, words):
    code = (
        "import sys; from pooler.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        "print(json.dumps('rich' in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import json\n{code}"],
        env={"PYTHONPATH": ":".join(sys.path), "POOLER_HOME": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stderr.splitlines()[-1]) is False
