"""What the actions about credentials answer an operator, on units in memory."""

import re

import pytest
from in_memory import related
from samples import AUTH, but

from app.errors import ActionFailed
from app.hooks.rotate import GetCredentials


class OperatorSecret:
    """The port `Secrets`, which keeps the login of the console for the operator."""

    def publish_console(self, auth):
        self.login = (auth.admin_user, auth.admin_password.get_secret_value())
        return "secret:of-operator"


def test_the_operator_gets_a_secret_with_the_login_of_the_console():
    platform = related(units=1)
    platform.model.auth = but(AUTH, signed_for=platform.model.auth.signed_for)
    kept = OperatorSecret()
    assert GetCredentials(platform.leader.ports.facts, kept)() == "secret:of-operator"
    assert kept.login == ("admin", "p3")


@pytest.mark.parametrize(
    ("applications", "known"), [([], "none"), (["shop"], "shop"), (["shop", "blog"], "blog, shop")]
)
def test_a_wrong_name_is_answered_with_the_applications_that_exist(applications, known):
    platform = related(units=1)
    for application in applications:
        platform.relate(application, application)
    said = "no application 'nosuch' has credentials: applications with credentials are " + known
    with pytest.raises(ActionFailed, match=f"^{re.escape(said)}$"):
        platform.leader.rotate_credentials("clients", "nosuch")
