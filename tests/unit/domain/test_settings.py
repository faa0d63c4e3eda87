import pytest

from domain.settings import ACCEPTS, OPTIONS, Settings, field_of, settings_from

TIMEOUTS = tuple(
    name for name, option in OPTIONS.items() if option.accepts.text.startswith("whole seconds")
)


def test_nothing_asked_for_is_the_default():
    assert settings_from({}) == (Settings(), ())


def test_every_option_says_what_it_accepts():
    assert set(map(field_of, ACCEPTS)) == set(Settings.model_fields)


@pytest.mark.parametrize(
    "options",
    [
        {"listen_port": 1024},
        {"listen_port": 65535},
        {"pool_mode": "statement"},
        {"server_reset_query_always": True},
        {"max_packet_size": 2**20},
        {"max_packet_size": 2**30},
        {"server_reset_query_always": False},
        {"max_db_connections": 0},
        {"max_prepared_statements": 2**31 - 1},
        {"default_pool_size": 0, "min_pool_size": 0, "reserve_pool_size": 0},
        {"default_pool_size": 262143, "min_pool_size": 262143, "reserve_pool_size": 262143},
        dict.fromkeys(TIMEOUTS, 0),
        dict.fromkeys(TIMEOUTS, 2**31 - 1),
    ],
)
def test_what_lies_on_the_border_is_taken(options):
    settings, problems = settings_from(options)
    assert problems == ()
    assert settings.model_dump(include=set(options)) == options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen_port", 1023),
        ("listen_port", 65536),
        ("listen_port", "6432"),
        ("listen_port", True),
        ("pool_mode", "Session"),
        ("pool_mode", ""),
        *(("server_reset_query_always", value) for value in (1, 0, "true", "yes", "", None)),
        *(("max_packet_size", value) for value in (0, 2**20 - 1, 2**30 + 1, 2**31, "64MB", 1e7)),
        ("max_db_connections", -1),
        ("max_db_connections", 2**31),
        ("max_db_connections", 1.5),
        ("max_prepared_statements", None),
        ("default_pool_size", -1),
        ("default_pool_size", 262144),
        ("min_pool_size", "1"),
        ("reserve_pool_size", 1.0),
        *((name, value) for name in TIMEOUTS for value in (-1, 2**31, 0.5, "30", "30s", True)),
    ],
)
def test_what_lies_beyond_is_named_with_what_is_accepted(name, value):
    settings, problems = settings_from({name: value, "pool_mode": "session"} | {name: value})
    assert settings is None
    assert problems == (f"option {name} must be {ACCEPTS[name]}, not {str(value)!r}",)


def test_options_that_pgbouncer_takes_as_they_are_become_lines():
    lines = dict(Settings(pool_mode="transaction", query_timeout=30).passed_on())
    assert lines["pool_mode"] == "transaction"
    assert lines["query_timeout"] == "30"
    assert lines["max_packet_size"] == "67108864"


def test_options_that_the_units_divide_are_not_passed_on():
    lines = dict(Settings().passed_on())
    divided = {"max_db_connections", "default_pool_size", "min_pool_size", "reserve_pool_size"}
    assert divided.intersection(lines) == set()


def test_each_bad_option_gets_its_own_sentence():
    _, problems = settings_from({"listen_port": 1, "pool_mode": "x", "colour": "red"})
    assert len(problems) == 3
    assert problems[2].startswith("unknown option colour: there are listen_port, ")


def test_a_long_value_is_cut():
    _, problems = settings_from({"pool_mode": "x" * 10_000, "y" * 10_000: 1})
    assert all(len(problem) < 800 for problem in problems)


def test_what_an_operator_wrote_is_cut_where_it_becomes_too_long():
    _, (unknown,) = settings_from({"x" * 70: 1})
    assert unknown.startswith(f"unknown option {'x' * 60}: there are ")
    _, (wrong,) = settings_from({"pool_mode": "y" * 70})
    assert wrong.endswith(f", not '{'y' * 40}'")


def test_a_number_that_python_would_not_write_is_not_shown():
    _, problems = settings_from({"listen_port": 10**5000})
    assert problems == (
        "option listen_port must be a whole number from 1024 to 65535, not 'a number with many digits'",
    )


def test_a_name_that_does_not_show_is_spelled_out():
    _, problems = settings_from({"\ud800\n": 1})
    assert problems[0].startswith("unknown option '\\ud800\\n': ")


@pytest.mark.parametrize(
    "text", ["charmed_dba,createdb", "createdb charmed_dba", " CREATEDB ,\ncharmed_dba,,createdb"]
)
def test_names_are_separated_by_commas_or_spaces(text):
    settings, problems = settings_from({"allowed-roles": text, "shared-databases": "b a,a"})
    assert problems == ()
    assert settings.allowed_roles == ("charmed_dba", "createdb")
    assert settings.shared_databases == ("a", "b")


def test_a_database_whose_name_is_a_number_can_be_shared():
    assert settings_from({"shared-databases": 2024})[0].shared_databases == ("2024",)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"allowed-roles": "createdb,superuser"},
            "clients cannot have role 'superuser': they can",
        ),
        ({"allowed-roles": 1}, "clients cannot have role '1': they can have admin, "),
        ({"shared-databases": "shop;x"}, "no database of a client can have the name 'shop;x'"),
        ({"shared-databases": "x" * 64}, "no database of a client can have the name 'xxx"),
        ({"allowed-roles": True}, "must be names of roles, separated by commas or spaces"),
        ({"shared-databases": None}, "must be names of databases, separated by commas"),
    ],
)
def test_a_list_with_a_bad_name_is_a_sentence(options, sentence):
    settings, (problem,) = settings_from(options)
    assert settings is None
    assert problem.startswith(f"option {next(iter(options))}")
    assert sentence in problem
    assert len(problem) < 300


def test_settings_are_read_back_as_they_were_shared():
    settings, _ = settings_from({"allowed-roles": "createdb", "shared-databases": "shop"})
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_extra_names_are_host_names_and_addresses():
    settings, _ = settings_from({"tls-extra-sans": "pool.example.com, *.example.com 192.0.2.1"})
    assert settings.tls_extra_sans == ("*.example.com", "192.0.2.1", "pool.example.com")
    _, problems = settings_from({"tls-extra-sans": "pool.example.com https://example.com"})
    assert problems == (
        "option tls-extra-sans: 'https://example.com' is neither a host name nor an IP address",
    )


def test_names_of_shared_databases_keep_their_capital_letters():
    settings, problems = settings_from({"shared-databases": "shop Shop_2-a.B"})
    assert problems == ()
    assert settings.shared_databases == ("Shop_2-a.B", "shop")
