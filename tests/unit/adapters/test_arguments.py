"""What the words of `pooler` mean: options as Juju would type them."""

import pytest

from pooler.arguments import Mistake, options


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("server_reset_query_always=true", True),
        ("server_reset_query_always=false", False),
        ("max_db_connections=30", 30),
        ("pool_mode=statement", "statement"),
        ("overrides=", ""),
    ],
)
def test_a_word_is_an_option_of_the_right_type(word, value):
    name = word.partition("=")[0]
    assert options({}, [word]) == {name: value}


@pytest.mark.parametrize("word", ["True", "yes", "1", "0", "on", ""])
def test_what_is_neither_true_nor_false_is_refused(word):
    with pytest.raises(Mistake, match="must be true or false, not"):
        options({}, [f"server_reset_query_always={word}"])


@pytest.mark.parametrize("word", ["listen_port=true", "pool_mode=false", "overrides=true"])
def test_an_option_of_another_type_is_neither_true_nor_false(word):
    with pytest.raises(Mistake, match="must be"):
        options({}, [word])
