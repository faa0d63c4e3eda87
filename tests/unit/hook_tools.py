"""Hook tools that a charm calls without ops' model, answered by Scenario. Light to import."""

from ops import hookcmds
from scenario.mocking import _MockModelBackend

_begin = _MockModelBackend.__init__
_backends = []


def _begun(self, *args, **kwargs):
    _begin(self, *args, **kwargs)
    _backends[:] = [self]


def _relation_get(relation, *, unit, app=False):
    return dict(_backends[0].relation_get(relation, unit, app))


def _relation_list(relation):
    return list(_backends[0].relation_list(relation))


def _config_get():
    return dict(_backends[0].config_get())


def _secret_get(**which):
    return dict(_backends[0].secret_get(**which))


_MockModelBackend.__init__ = _begun
hookcmds.relation_get, hookcmds.relation_list = _relation_get, _relation_list
hookcmds.config_get, hookcmds.secret_get = _config_get, _secret_get
