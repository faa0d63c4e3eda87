"""The hooks of the application, as its attributes list them."""

from app.application import Application
from app.hooks.private_key import SetPrivateKey
from app.hooks.rotate import GetCredentials, RotateCredentials, SecretRotate
from app.hooks.stop import Stop
from app.hooks.upgrade import PreUpgradeCheck, ResumeUpgrade
from app.ports import Ports

_APPLICATION = Application(Ports(*[None] * len(Ports._fields)))

# Actions, the end of a pod, which has no outcome, and a hook that begins a change, and so has another end.
_WITHOUT_OUTCOME = (
    PreUpgradeCheck, ResumeUpgrade, SetPrivateKey, Stop, RotateCredentials, GetCredentials,
    SecretRotate,
)  # fmt: skip

# Every hook that has an outcome.
HOOKS = tuple(
    name
    for name, hook in vars(_APPLICATION).items()
    if type(hook).__module__.startswith("app.hooks.") and not isinstance(hook, _WITHOUT_OUTCOME)
)

# Hooks that are called with the name of the unit that departs.
DEPARTED = tuple(name for name in HOOKS if name.endswith("_departed"))

# Hooks that are called without an argument.
PLAIN = tuple(name for name in HOOKS if name not in DEPARTED)


def run_hook(unit, name, departing="pgbouncer/9"):
    """Run a hook of a unit and return its outcome; `departing` is the unit that departs."""
    return getattr(unit, name)(*[departing] * (name in DEPARTED))
