"""The options of config.yaml and docs/reference.md are those of the domain's table."""

import pathlib
import re
from typing import get_args

from on_juju import CONFIG

from domain.options import WholeNumber
from domain.settings import OPTIONS, Settings, settings_from
from domain.value import PoolMode

ROOT = pathlib.Path(__file__).parents[3]
JUJU = CONFIG["options"]
_TABLE = (
    (ROOT / "docs/reference.md").read_text().partition("## Options\n")[2].partition("\n## ")[0]
)
# Of each row of the table of options: the option, its default, what it accepts, its meaning.
REFERENCE = re.findall(r"^\| `([\w-]+)` \| ([^|]*)\| ([^|]*) \| (.*) \|$", _TABLE, re.MULTILINE)
# A range in a description, such as `0 (never) to 2147483647`.
RANGE = re.compile(r"\b(\d+)(?:\s\([^)]*\))?\sto\s(\d+)\b")


def _default(name):
    """Return the default of an option as text, as people write it."""
    value = Settings.model_fields[OPTIONS[name].field].default
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | str) else ""


def _numbers():
    """Return the bounds and the unit of every option that is a number."""
    numbers = ((name, option.accepts) for name, option in OPTIONS.items())
    return {
        name: (number.least, number.most, number.unit)
        for name, number in numbers
        if isinstance(number, WholeNumber)
    }


def _unit(text):
    """Return the unit that a description names: its first word, or a word before `in`."""
    named = re.match(r"(Seconds|Bytes)\b", text) or re.match(r"[^.:]* in (bytes)\b", text)
    return named[1].lower() if named else "number"


def _ranges(texts):
    return {
        name: [(int(least), int(most), _unit(text)) for least, most in RANGE.findall(text)]
        for name, text in texts.items()
    }


def test_the_table_config_yaml_and_the_reference_list_the_same_options():
    assert list(JUJU) == list(OPTIONS)
    assert [row[0] for row in REFERENCE] == list(OPTIONS)
    assert [option.field for option in OPTIONS.values()] == list(Settings.model_fields)


def test_the_defaults_of_config_yaml_are_those_of_the_table():
    # Juju has no default for an option of type secret.
    defaults = {name: option.get("default", "") for name, option in JUJU.items()}
    assert settings_from(defaults) == (Settings(), ())
    written = {name: str(value) for name, value in defaults.items()}
    assert {name: text.lower() for name, text in written.items()} == {
        name: _default(name) for name in OPTIONS
    }


def test_the_defaults_of_the_reference_are_those_of_the_table():
    assert {name: default.strip() for name, default, _, _ in REFERENCE} == {
        name: _default(name) for name in OPTIONS
    }


def test_juju_has_the_type_of_each_option():
    types = {bool: "boolean", int: "int"}
    assert {name: option["type"] for name, option in JUJU.items()} == {
        name: types.get(Settings.model_fields[option.field].annotation, "string")
        for name, option in OPTIONS.items()
    } | {"system-users": "secret"}


def test_config_yaml_names_the_bounds_and_the_unit_of_each_number():
    described = {name: JUJU[name]["description"] for name in _numbers()}
    assert _ranges(described) == {name: [number] for name, number in _numbers().items()}


def test_the_reference_names_the_bounds_and_the_unit_of_each_number():
    rows = {name: (accepts, meaning) for name, _, accepts, meaning in REFERENCE}
    bounds = {name: f"{least} to {most}" for name, (least, most, _) in _numbers().items()}
    assert {name: rows[name][0] for name in bounds} == bounds
    assert {name: _unit(rows[name][1]) for name in bounds} == {
        name: unit for name, (_, _, unit) in _numbers().items()
    }
    ranged = {name for name, (accepts, _) in rows.items() if RANGE.search(accepts)}
    assert ranged == set(bounds)


def test_the_reference_lists_the_values_of_each_option_with_few_values():
    accepted = {name: set(accepts.split(", ")) for name, _, accepts, _ in REFERENCE}
    assert accepted["pool_mode"] == set(get_args(PoolMode))
    booleans = {name for name, values in accepted.items() if values == {"true", "false"}}
    assert booleans == {
        name
        for name, option in OPTIONS.items()
        if Settings.model_fields[option.field].annotation is bool
    }


def test_an_option_says_as_a_sentence_what_its_row_accepts():
    assert OPTIONS["max_packet_size"].accepts.text == (
        "whole bytes from 1048576 (1 MiB) to 1073741824 (1 GiB)"
    )
    assert OPTIONS["min_pool_size"].accepts.text == "a whole number from 0 to 262143"


def test_the_example_of_overrides_is_accepted():
    text = JUJU["overrides"]["description"].partition("Example:")[2]
    settings, problems = settings_from({"overrides": text})
    assert problems == ()
    assert settings.overrides.of_database("shop").max_connections == 20
    assert settings.overrides.of_user("relation_id_7").pool_mode == "session"
