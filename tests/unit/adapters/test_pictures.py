"""The pictures of docs/ show what the commands draw today."""

import importlib.util
import pathlib
import re

import pytest

DOCS = pathlib.Path(__file__).parents[3] / "docs"
_SPEC = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
pictures = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(pictures)


@pytest.mark.parametrize("name", pictures.COMMANDS)
def test_a_picture_is_what_its_command_draws(name):
    kept = (DOCS / "pictures" / f"{name}.svg").read_text()
    assert kept == pictures.picture(name), "run `python docs/pictures.py`"


@pytest.mark.parametrize("name", pictures.COMMANDS)
def test_a_picture_needs_nothing_from_the_network(name):
    kept = (DOCS / "pictures" / f"{name}.svg").read_text()
    assert set(re.findall(r"https?://[^\"<) ]+", kept)) == {"http://www.w3.org/2000/svg"}
