"""A double for any port, for tests that compare all that an intent or a hook tells its ports."""

from contextlib import contextmanager

import pydantic

from domain.backend import BackendLogin
from domain.endpoints import endpoints_in

# What PostgreSQL's charm gives.
LOGIN = BackendLogin(
    user="operator", password=pydantic.SecretStr("secret"), database="pgbouncer",
    endpoints=endpoints_in("10.1.0.1:5432"),
)  # fmt: skip


class Port:
    """A port that notes what it is told; each answer is a value, a function, or an error to raise."""

    def __init__(self, **answers):
        self.told, self._answers = [], answers

    def __getattr__(self, name):
        def call(*values, **named):
            self.told.append((name, *values, *named.values()))
            answer = self._answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer(*values) if callable(answer) else answer

        return call

    @contextmanager
    def open(self, *values):
        self.told.append(("open", *values))
        if "open" in self._answers:
            raise self._answers["open"]
        yield self
