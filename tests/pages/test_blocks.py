"""A page whose commands fail, or do not print what it shows, is found."""

import subprocess

import pytest

from pages.blocks import missing, page, script


@pytest.fixture
def run(tmp_path):
    """Run the blocks of a page, and return what is wrong with it, as Machine.read does."""

    def run(text):
        file = tmp_path / "page.md"
        file.write_text(text)
        read = page(file, "page.md")
        done = subprocess.run(["bash", "-c", script(read, str(tmp_path))], check=False)
        if done.returncode:
            return (tmp_path / "failed").read_text().strip()
        lines = [
            missing(run, (tmp_path / str(run.block.line)).read_text())
            for run in read.runs
            if run.shown
        ]
        return next(filter(None, lines), None)

    return run


def block(text, language="shell"):
    return f"```{language}\n{text}\n```\n"


def test_blocks_that_succeed_share_a_shell(run):
    assert run("# A page\n" + block("word=tea") + "Then:\n" + block('test "$word" = tea')) is None


def test_a_command_that_fails_is_named_with_its_line_in_the_page(run):
    assert run("# A page\n\n" + block("true\nls /nowhere\ntrue")) == (
        "page.md:5: ls /nowhere: exit code 2"
    )


def test_a_command_in_the_first_block_of_a_page_is_run(run):
    assert run(block("false")) == "page.md:2: false: exit code 1"


def test_a_command_that_the_page_calls_refused_has_to_fail(run):
    assert run(block("false  # refused: because")) is None
    assert run(block("false  # exit code 1: because")) is None
    assert "page.md:2" in run(block("true  # refused: because"))


def test_a_block_with_a_reason_is_not_run(run):
    assert run(block("false", "shell juju")) is None


def test_a_reason_that_does_not_exist_is_an_error(run):
    with pytest.raises(ValueError, match="'monday' is none of"):
        run(block("false", "shell monday"))


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("ready", "ready"),
        ("   5.9 s  ready", "0.1 s  ready"),
        ("first\nsecond\nthird", "first\nthird"),
        ("unit   address\nx/0*   127.0.0.2:6432  12", "unit  address\nx/0*  127.0.0.9:6433  1"),
        ("password  dfg87AA", "password  …"),
    ],
)
def test_output_that_differs_in_numbers_and_widths_is_as_shown(run, printed, shown):
    assert run(block(f"printf '{printed}'") + "\n" + block(shown, "text")) is None


@pytest.mark.parametrize(
    ("printed", "shown", "line"),
    [
        ("waiting", "ready", "ready"),
        ("second\nfirst", "first\nsecond", "second"),
        ("", "ready", "ready"),
        ("password", "password  …", "password  …"),
    ],
)
def test_a_line_that_is_not_printed_at_its_place_is_named(run, printed, shown, line):
    assert run(block(f"printf '{printed}'") + "\n" + block(shown, "text")) == line


def test_a_text_after_other_text_is_not_taken_for_output(run):
    assert run(block("printf x") + "\nFor example:\n\n" + block("y", "text")) is None


def test_blocks_in_a_list_are_run(run):
    text = (
        "1. First\n\n   ```shell\n   printf 'a\n   b'\n   ```\n\n   ```text\n   a\n   b\n   ```\n"
    )
    assert run(text) is None
    assert run("1. First\n\n   ```shell\n   false\n   ```\n") == "page.md:4: false: exit code 1"
