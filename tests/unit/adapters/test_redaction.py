"""No secret stays in a text that leaves the machine."""

import json
from urllib.parse import quote

import pydantic
import pytest
from hypothesis import strategies as st
from profiles import given

from domain.backend import BackendLogin
from pooler.redaction import REMOVED, Redaction, secrets_in, secrets_in_json
from pooler.store import ServerRecord, State

SECRET = "p/w'ö\"5%"
WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(WORDS, WORDS)
def test_a_secret_is_removed_wherever_it_stands(before, secret):
    shown = Redaction([secret])(before + secret + before)
    assert secret not in shown.replace(REMOVED, "") or secret in REMOVED


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"postgresql://u:{quote(SECRET, safe='')}@h/d",
        json.dumps({"x": SECRET}),
        "alter role x password '" + SECRET.replace("'", "''") + "'",
    ],
)
def test_a_secret_is_removed_in_the_forms_of_uris_json_and_sql(text):
    shown = Redaction([SECRET])(text)
    for form in (SECRET, quote(SECRET, safe=""), json.dumps(SECRET)[1:-1]):
        assert form not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ALTER ROLE x PASSWORD 'abc'", f"ALTER ROLE x PASSWORD {REMOVED}"),
        (r"ALTER ROLE x PASSWORD E'a\'bc' bad", f"ALTER ROLE x PASSWORD {REMOVED} bad"),
        ("ALTER ROLE x PASSWORD $$abc$$ bad", f"ALTER ROLE x PASSWORD {REMOVED} bad"),
        ("ALTER ROLE x PASSWORD $q$a\nb$q$ bad", f"ALTER ROLE x PASSWORD {REMOVED} bad"),
        ("ALTER ROLE x PASSWORD 'abc, cut\nnext", f"ALTER ROLE x PASSWORD {REMOVED}\nnext"),
        ("ALTER ROLE x PASSWORD E'abc, cut\\\nnext", f"ALTER ROLE x PASSWORD {REMOVED}\nnext"),
        ("ALTER ROLE x PASSWORD $$abc, cut\nnext", f"ALTER ROLE x PASSWORD {REMOVED}\nnext"),
        ("host=h password=abc user=u", f"host=h password={REMOVED} user=u"),
        ('{"password": "abc"}', f'{{"password": {REMOVED}}}'),
        ("postgresql://u:abc@h:1/d", f"postgresql://u:{REMOVED}@h:1/d"),
        ("postgresql://u:a/b@h:1/d", f"postgresql://u:{REMOVED}@h:1/d"),
        ("'postgres://u:a/b@c:d@h/d' ok", f"'postgres://u:{REMOVED}@h/d' ok"),
        ("SCRAM-SHA-256$4096:c2FsdA==$a2V5:a2V5", f"SCRAM-SHA-256${REMOVED}"),
        ("md5" + "0a" * 16, f"md5{REMOVED}"),
    ],
)
def test_a_password_that_the_state_does_not_know_is_removed(text, shown):
    assert Redaction([])(text) == shown


@pytest.mark.parametrize("length", range(4, len("correct-horse") + 1))
def test_the_beginning_of_a_secret_is_removed_where_a_log_was_cut(length):
    text = "x" * 4000 + "correct-horse"[:length] + "\nnext"
    assert Redaction(["correct-horse"])(text) == "x" * 4000 + f"{REMOVED}\nnext"


@pytest.mark.parametrize(
    "text",
    [
        "auth_query = SELECT username, password FROM pgbouncer.get_auth($1)",
        'FATAL: password authentication failed for user "x"',
        "postgresql://u@h:5432/d, then user@h:5432",
    ],
)
def test_a_text_about_passwords_stays(text):
    assert Redaction([])(text) == text


def test_a_secret_that_contains_another_secret_is_removed_as_a_whole():
    assert Redaction(["abc", "abcdef"])("abcdef") == REMOVED


def test_every_secret_of_the_state_is_found_at_any_depth():
    state = State(
        server=ServerRecord(programs="/x", port=1, password=pydantic.SecretStr("first")),
    )
    state.model.backend = state.model.backend.model_copy(
        update={
            "credentials": BackendLogin(
                user="u",
                password=pydantic.SecretStr("second"),
                database="d",
                endpoints=({"host": "h", "port": 1},),
            )
        }
    )
    assert set(secrets_in(state)) == {"first", "second"}


def test_secrets_of_a_damaged_state_are_found():
    text = '{"server": {"password": "fi\\"rst"}, "auth": {"admin_password": "second"}, "x": '
    assert list(secrets_in_json(text)) == ['fi"rst', "second"]
