"""The actions of the charm: what an operator passes, and what the application answers.

A row of ACTIONS has the name of an action, as in actions.yaml, and its function. The function gets the
application, the parameters as Juju passes them, and a function that adds a line to the log of the action. It
returns the results, and raises ActionFailed with a sentence for the operator.

Only the handler of actions imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pydantic

from adapters.juju import operate_actions, rotation_actions
from app.errors import ActionFailed, CertificatesFailed, NotLeading
from app.outcome import Answer
from domain.commands import argument

if TYPE_CHECKING:
    import ops

    from app.application import Application
    from app.outcome import Outcome

Parameters = Mapping[str, object]
Log = Callable[[str], None]
Results = dict[str, object]


def _set_tls_private_key(application: Application, parameters: Parameters, _: Log) -> Results:
    key = str(parameters.get("private-key") or "")
    try:
        application.set_private_key(pydantic.SecretStr(key) if key else None)
    except CertificatesFailed as error:
        raise ActionFailed(str(error)) from None
    return {}


def _pre_upgrade_check(application: Application, _: Parameters, __: Log) -> Results:
    return application.pre_upgrade_check()


def _resume_upgrade(application: Application, parameters: Parameters, _: Log) -> Results:
    return {"message": application.resume_upgrade(force=parameters.get("force") is True)}


# A function returns its results. If it has also run a hook, it returns an Answer with the outcome of the hook, so
# that the status follows.
ACTIONS: dict[str, Callable[[Application, Parameters, Log], Mapping[str, object] | Answer]] = {
    "set-tls-private-key": _set_tls_private_key,
    "pre-upgrade-check": _pre_upgrade_check,
    "resume-upgrade": _resume_upgrade,
    "pause": operate_actions.pause,
    "resume": operate_actions.resume,
    "disable": operate_actions.disable,
    "enable": operate_actions.enable,
    "restart": operate_actions.restart,
    "reconnect": operate_actions.reconnect,
    "kill-clients": operate_actions.kill_clients,
    "show": operate_actions.show,
    "report": operate_actions.report,
    "rotate-credentials": rotation_actions.rotate_credentials,
    "get-credentials": rotation_actions.get_credentials,
}


def _on_leader(unit: str, name: str, parameters: Parameters) -> str:
    """Return the command that runs this action on the leader."""
    words = [f"juju run {unit.partition('/')[0]}/leader {name}"]
    words += [argument(key, value) for key, value in parameters.items()]
    return " ".join(words)


def run(event: ops.ActionEvent, application: Application) -> Outcome | None:
    """Run the action of an event, set its results, and return the outcome of the hook that it ran, if any."""
    name = event.handle.kind.removesuffix("_action").replace("_", "-")
    try:
        answer = ACTIONS[name](application, event.params, event.log)
    except NotLeading as error:
        event.fail(str(NotLeading(error.unit, _on_leader(error.unit, name, event.params))))
        return None
    except ActionFailed as error:
        event.fail(str(error))
        return None
    if not isinstance(answer, Answer):
        answer = Answer(answer)
    if answer.failure:
        event.fail(answer.failure)
    else:
        event.set_results(dict(answer.results))
    return answer.outcome
