import base64
import hashlib
import hmac

import pytest

from domain.scram import verifier


def test_a_client_that_knows_the_password_can_prove_it():
    """The client's side of RFC 5802: its proof opens the stored key."""
    scheme, parameters, keys = verifier("shop", "hunter2").split("$")
    iterations, salt = parameters.split(":")
    stored, server = keys.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", b"hunter2", base64.b64decode(salt), int(iterations))
    client = hmac.digest(salted, b"Client Key", "sha256")
    assert scheme == "SCRAM-SHA-256"
    assert base64.b64encode(hashlib.sha256(client).digest()).decode() == stored
    assert base64.b64encode(hmac.digest(salted, b"Server Key", "sha256")).decode() == server


def test_a_verifier_is_constant_and_does_not_contain_the_password():
    assert "hunter2" not in verifier("shop", "hunter2")
    assert verifier("shop", "hunter2") == verifier("shop", "hunter2")


def test_verifiers_of_users_with_an_equal_password_differ():
    assert verifier("shop", "hunter2") != verifier("blog", "hunter2")


def test_a_password_that_would_have_to_be_normalised_is_refused():
    with pytest.raises(UnicodeEncodeError):
        verifier("shop", "pässword")
