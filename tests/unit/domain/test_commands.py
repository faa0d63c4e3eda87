import shlex

import pytest

from domain.commands import argument


@pytest.mark.parametrize("value", ["shop", "shop-app", "_a", "pgbouncer/0"])
def test_a_word_needs_no_quotes(value):
    assert argument("database", value) == f"database={value}"


@pytest.mark.parametrize(
    "value",
    ["2024", "1e5", "0x10", "true", "NO", "null", "1.5", "a b", "", "it's", "a$b", 'a"b', "-x"],
)
def test_any_other_text_is_a_text_of_yaml_in_a_single_word_of_the_shell(value):
    (word,) = shlex.split(argument("database", value))
    name, _, text = word.partition("=")
    assert name == "database"
    assert text == "'" + value.replace("'", "''") + "'"


def test_numbers_and_booleans_are_those_of_yaml():
    assert argument("timeout", 60) == "timeout=60"
    assert argument("remove", True) == "remove=true"


def test_an_operator_reads_double_quotes_unless_the_shell_changes_the_text():
    assert argument("database", "2024") == "database=\"'2024'\""
    assert argument("database", "a$b").startswith("'database=")
