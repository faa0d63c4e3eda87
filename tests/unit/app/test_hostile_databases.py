"""A client whose database hangs, in memory: the other clients are served, and its login ends."""

from in_memory import related

from app.outcome import AskAgain, Done
from domain.problems import Level
from domain.status import assess

HUNG = "database shop lets no session in while user relation_id_1 locks its catalog"


def sentences(platform):
    return [sentence.text for sentence in assess(platform.leader.read())]


def levels(platform):
    return {sentence.level for sentence in assess(platform.leader.read())}


def asked_at_once(platform, *databases):
    """Relate clients, without a hook."""
    return [platform.model.relate(f"{name}-app", name) for name in databases]


def test_another_client_is_related_while_a_database_hangs():
    platform = related()
    hostile = platform.relate("shop-app", "shop")
    platform.server.hung["shop"] = HUNG
    other = platform.relate("blog-app", "blog")
    assert platform.model.clients[other].told
    assert platform.model.clients[hostile].told
    assert platform.server.roles["relation_id_1"].login


def test_a_client_whose_database_hangs_keeps_what_it_was_given():
    platform = related()
    platform.relate("shop-app", "shop")
    before = platform.model.plan
    platform.server.hung["shop"] = HUNG
    platform.leader.leader_elected()
    assert sentences(platform) == [f"shop-app (relation 1): {HUNG}"]
    assert levels(platform) == {Level.WAITING}
    assert platform.model.plan == before
    del platform.server.hung["shop"]
    platform.leader.update_status()
    assert sentences(platform) == [""]


def test_a_client_that_has_left_is_shut_out_though_its_database_hangs():
    platform = related()
    hostile = platform.relate("shop-app", "shop")
    platform.server.hung["shop"] = HUNG
    platform.unrelate(hostile)
    role = platform.server.roles["relation_id_1"]
    assert (role.login, role.password) == (False, "")
    said = f"relation_id_1 cannot log in any more, and is still in PostgreSQL: {HUNG}"
    assert sentences(platform) == [said]
    del platform.server.hung["shop"]
    platform.leader.update_status()
    assert "relation_id_1" not in platform.server.roles


def test_clients_that_have_left_are_shut_out_before_anything_is_refused():
    """Without the auth user nothing else is made, but the login is gone."""
    platform = related()
    hostile = platform.relate("shop-app", "shop")
    auth = platform.model.auth.auth_user
    platform.server.roles[auth].ours = False
    platform.unrelate(hostile)
    assert not platform.server.roles["relation_id_1"].login


def test_a_client_that_can_still_log_in_is_named():
    platform = related()
    hostile = platform.relate("shop-app", "shop")
    platform.server.undying["relation_id_1"] = "another session keeps something locked"
    platform.server.stuck = "it owns something"
    platform.unrelate(hostile)
    assert sentences(platform) == [
        "relation_id_1 has left and can still log in to PostgreSQL:"
        " another session keeps something locked"
    ]
    assert levels(platform) == {Level.BLOCKED}
    platform.server.undying.clear()
    platform.server.stuck = ""
    platform.leader.update_status()
    assert sentences(platform) == [""]


def test_a_hook_that_has_waited_long_is_followed_by_another():
    platform = related()
    names = ["a", "b", "c", "d"]
    numbers = asked_at_once(platform, *names)
    platform.server.hung = {name: f"database {name} is locked" for name in names[:3]}
    outcome = platform.leader.clients_changed()
    assert isinstance(outcome, AskAgain)
    assert [sentence.rpartition(": ")[2] for sentence in sentences(platform)] == [
        "database a is locked",
        "database b is locked",
        "is tried again soon",
        "is tried again soon",
    ]
    # A client that was not tried comes first; the client that delays it comes last, and waits briefly.
    outcome = platform.leader.clients_changed()
    assert isinstance(outcome, Done)
    platform.settle()
    assert platform.model.clients[numbers[3]].told
    assert [sentence.rpartition(": ")[2] for sentence in sentences(platform)] == [
        f"database {name} is locked" for name in names[:3]
    ]


def test_what_is_known_of_a_client_stays_when_no_time_is_left_to_look():
    platform = related()
    names = [f"shop{number}" for number in range(12)]
    numbers = [platform.relate(f"{name}-app", name) for name in names]
    platform.server.hung = {name: f"database {name} is locked" for name in names}
    for _ in range(8):
        platform.leader.leader_elected()
    told = sorted(sentence.rpartition(": ")[2] for sentence in sentences(platform))
    assert told == sorted(f"database {name} is locked" for name in names)
    assert all(platform.model.clients[number].told for number in numbers)
    assert isinstance(platform.leader.update_status(), Done)


def leave_at_once(platform, numbers):
    """Remove relations, and run database-relation-broken of the leader once."""
    for number in numbers:
        del platform.model.clients[number]
    return platform.leader.clients_broken()


def still_there(**reasons):
    """Return the sentences on users that were not dropped, for these reasons."""
    said = "cannot log in any more, and is still in PostgreSQL"
    return [f"{username} {said}: {reason}" for username, reason in reasons.items()]


def test_the_newest_reason_why_a_user_stays_is_told():
    platform = related()
    number = platform.relate("shop-app", "shop")
    platform.server.stuck = "it owns a table"
    platform.unrelate(number)
    assert sentences(platform) == still_there(relation_id_1="it owns a table")
    platform.server.stuck = "it owns a schema"
    platform.leader.update_status()
    assert sentences(platform) == still_there(relation_id_1="it owns a schema")


def test_users_for_whom_no_time_is_left_are_dropped_by_the_next_hook():
    platform = related()
    names = ["a", "b", "c", "d"]
    numbers = [platform.relate(f"{name}-app", name) for name in names]
    locked = {name: f"database {name} is locked" for name in names}
    platform.server.hung = dict(locked)
    outcome = leave_at_once(platform, numbers)
    assert isinstance(outcome, AskAgain)
    assert outcome.reason == "waiting for the next hook to go on in PostgreSQL"
    assert levels(platform) == {Level.WAITING}
    soon = "is tried again soon"
    reasons = {"relation_id_1": locked["a"], "relation_id_2": locked["b"]}
    first = reasons | {"relation_id_3": soon, "relation_id_4": soon}
    assert sorted(sentences(platform)) == still_there(**first)
    # The hook has waited for the other two, so what is known of these stays.
    assert isinstance(platform.leader.update_status(), Done)
    after = reasons | {"relation_id_3": locked["c"], "relation_id_4": locked["d"]}
    assert sorted(sentences(platform)) == still_there(**after)
    assert levels(platform) == {Level.WAITING}


def test_what_is_known_of_a_user_stays_when_no_time_is_left_to_drop_it():
    platform = related()
    names = [f"shop{number}" for number in range(12)]
    numbers = [platform.relate(f"{name}-app", name) for name in names]
    platform.server.hung = {name: f"database {name} is locked" for name in names}
    leave_at_once(platform, numbers)
    for _ in range(8):
        platform.leader.leader_elected()
    reasons = zip(numbers, names, strict=True)
    known = {f"relation_id_{number}": f"database {name} is locked" for number, name in reasons}
    assert sorted(sentences(platform)) == sorted(still_there(**known))
