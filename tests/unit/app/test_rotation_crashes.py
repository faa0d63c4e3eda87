"""A rotation of client users whose hooks are killed at every effect ends as a rotation that is not killed."""

import time

import pytest
from crash_core import States, run, twin, works
from crash_ends import brought_to_rest, seen
from in_memory import related

pytestmark = pytest.mark.long

FIRST, SECOND = "relation_id_1", "relation_id_1__2"
SECONDS = 100


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Return a list with the seconds that the clock shows."""
    shown = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: shown[0])
    return shown


def served():
    """Return units with clients at `database` and `db`."""
    platform = related()
    platform.relate("shop", "shop")
    platform.relate("old", "old", endpoint="db")
    return platform


def begins(unit):
    unit.rotate_credentials("clients", "", SECONDS)


def ends_at_once(unit):
    unit.rotate_credentials("clients", "", 0)


def hooks(platform):
    """Run the hooks that Juju still delivers, and return whether clients were let in after each of them."""
    let_in = []
    for unit in [platform.leader, *platform.followers, platform.leader]:
        unit.peers_changed()
        let_in.append(works(platform, 1) and works(platform, 2))
    return all(let_in)


# By stage: what happened before the hook that is killed, the hook, and how much later the hooks after it run.
def asked(platform):
    platform.leader.rotate_credentials("clients", "", SECONDS)


def at_once(platform, hooks):
    """Begin a rotation whose former credentials end at once, and run hooks of the leader."""
    ends_at_once(platform.leader)
    for _ in range(hooks):
        platform.leader.peers_changed()


def told(platform):
    asked(platform)
    platform.settle()


def expired(clock, platform):
    told(platform)
    clock[0] += SECONDS


STAGES = {
    "asked": (lambda _clock, _platform: None, begins),
    "renamed": (lambda _clock, platform: asked(platform), lambda unit: unit.peers_changed()),
    "dropped": (expired, lambda unit: unit.update_status()),
    "at once: asked": (lambda _clock, _platform: None, ends_at_once),
    "at once: renamed": (
        lambda _clock, platform: at_once(platform, 0),
        lambda unit: unit.peers_changed(),
    ),
    "at once: told": (
        lambda _clock, platform: at_once(platform, 1),
        lambda unit: unit.peers_changed(),
    ),
    "at once: expired": (
        lambda _clock, platform: at_once(platform, 2),
        lambda unit: unit.peers_changed(),
    ),
    "at once: ended": (
        lambda _clock, platform: at_once(platform, 3),
        lambda unit: unit.update_status(),
    ),
    "returns": (
        lambda clock, platform: (expired(clock, platform), platform.leader.update_status()),
        begins,
    ),
    "elected": (lambda _clock, platform: asked(platform), lambda unit: unit.leader_elected()),
    "left": (
        lambda _clock, platform: (told(platform), platform.model.clients.pop(2)),
        lambda unit: unit.clients_broken(),
    ),
}


def ended(platform, clock, hook):
    """Return what there is after the rotation and its hooks have ended."""
    if hook in (begins, ends_at_once) and not any(
        known.open for known in platform.model.ledger.rotations
    ):
        # The action was killed: the operator runs it again.
        hook(platform.leader)
    brought_to_rest(platform)
    clock[0] += SECONDS
    brought_to_rest(platform)
    return seen(platform)


@pytest.mark.parametrize("stage", STAGES)
def test_a_rotation_that_is_killed_anywhere_has_the_same_end(stage, clock):
    prepare, hook = STAGES[stage]
    platform = served()
    prepare(clock, platform)
    name, now = platform.model.leader, clock[0]
    other = twin(platform)
    killed = States()
    effects = run(other, name, hook)
    wanted = ended(other, clock, hook)
    assert effects > 0
    for last in range(1, effects + 1):
        clock[0] = now
        other = twin(platform)
        run(other, name, hook, last)
        if not killed.are_new(other):
            continue
        # Juju tells the clients of a killed hook nothing: the credentials that they have go on to work.
        staying = list(other.model.clients)
        assert [number for number in staying if works(other, number)] == staying, last
        if len(staying) > 1:
            assert hooks(other), last
        end = ended(other, clock, hook)
        rotations = end["model"]["ledger"]["rotations"]
        for known in (*rotations, *wanted["model"]["ledger"]["rotations"]):
            known["until"] = known["cut"] = 0
        assert end == wanted, f"killed after effect {last} of {effects}"
