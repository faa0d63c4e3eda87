"""The actions of the charm."""

from on_juju import ACTIONS

from adapters.juju import actions


def test_every_action_of_the_charm_has_a_function():
    assert set(actions.ACTIONS) == set(ACTIONS)


def test_every_action_refuses_parameters_that_it_does_not_have():
    assert [name for name, action in ACTIONS.items() if action["additionalProperties"]] == []
