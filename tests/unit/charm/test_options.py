"""Does config.yaml say what the domain takes?"""

import pytest
from on_juju import CONFIG

from domain.settings import ACCEPTS, Settings, field_of, settings_from

OPTIONS = CONFIG["options"]
SECONDS = [name for name in OPTIONS if name.endswith(("_timeout", "_lifetime"))]


def test_the_options_are_those_of_the_domain_in_its_order():
    assert list(OPTIONS) == list(ACCEPTS)
    assert list(map(field_of, ACCEPTS)) == list(Settings.model_fields)


def test_the_defaults_are_those_of_the_domain():
    defaults = {name: option["default"] for name, option in OPTIONS.items()}
    assert settings_from(defaults) == (Settings(), ())


@pytest.mark.parametrize("name", SECONDS)
def test_times_name_their_unit(name):
    assert OPTIONS[name]["description"].startswith("Seconds ")


def test_the_example_of_overrides_is_one():
    text = OPTIONS["overrides"]["description"].partition("Example:")[2]
    settings, problems = settings_from({"overrides": text})
    assert problems == ()
    assert settings.overrides.of_database("shop").max_connections == 20
    assert settings.overrides.of_user("relation_id_7").pool_mode == "session"
