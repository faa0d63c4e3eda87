import pytest

from domain.capabilities import Version, capabilities, version_in


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("PgBouncer 1.24.1", Version(1, 24, 1)),
        ("16.4 (Ubuntu 16.4-1.pgdg22.04+1)", Version(16, 4)),
        ("pgbouncer version 1.21.0\nlibevent 2.1.12-stable", Version(1, 21)),
        ("18", Version(18)),
        ("no number", None),
        ("", None),
        ("99999999.1", None),
    ],
)
def test_the_first_version_of_a_text_is_found(text, version):
    assert version_in(text) == version


def test_versions_compare_and_read_as_versions_do():
    assert Version(1, 9) < Version(1, 21) < Version(1, 21, 1)
    assert str(Version(1, 24, 1)) == "1.24.1"


@pytest.mark.parametrize(
    ("version", "supported", "waits_for_clients"),
    [
        (Version(1, 20, 1), False, False),
        (Version(1, 21), True, False),
        (Version(1, 22), True, False),
        (Version(1, 23), True, True),
        (Version(1, 26), True, True),
    ],
)
def test_what_a_release_can_do(version, supported, waits_for_clients):
    able = capabilities(version)
    assert able.supported is supported
    assert able.waits_for_clients is waits_for_clients
