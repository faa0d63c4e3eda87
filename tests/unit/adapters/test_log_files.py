"""The ends of logs: which lines are shown, in which order, and what is followed."""

import datetime
import os
import socket
import stat
import time

import pytest

from pooler import own_logins
from pooler.log_files import Follower, Source, moment, tail
from pooler.own_logins import OwnLogins
from pooler.verbs.logs import chosen

NO_LOGINS = OwnLogins({})
NOW = datetime.datetime(2026, 11, 27, 18, 30, tzinfo=datetime.UTC)
CONSOLE = (
    "LOG C-0x55: pgbouncer/pgbouncer_admin_pgbouncer@unix(1):6432 login attempt:"
    " db=pgbouncer user=pgbouncer_admin_pgbouncer tls=no replication=no"
)


def line(second, text):
    return f"2026-11-27 18:00:{second:02}.123 UTC [7] {text}"


def everything(_):
    return True


def shows(logged, own=NO_LOGINS, *, text=None, everything=False):
    """Return whether `logs` shows a line."""
    return chosen(text, own, everything=everything)(logged)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "pgbouncer.log"
    path.write_text("".join(line(second, f"LOG {second}") + "\n" for second in range(60)))
    return Source("pgbouncer/0/0", path)


def texts(lines):
    return [entry.text.rpartition(" ")[2] for entry in lines]


def test_the_last_lines_are_shown_the_oldest_first(log):
    assert texts(tail(log, 3, "", everything)) == ["57", "58", "59"]


def test_lines_before_a_time_are_left_out(log):
    assert texts(tail(log, 100, "2026-11-27 18:00:58", everything)) == ["58", "59"]


def test_only_lines_with_a_text_are_counted(log):
    assert texts(tail(log, 2, "", lambda text: text.endswith("5"))) == ["45", "55"]


def test_lines_without_a_time_stay_with_the_line_before(log):
    with log.path.open("a") as file:
        file.write(line(59, "ERROR statement") + "\nselect 1\nfrom nothing\n")
    shown = [entry.text for entry in tail(log, 100, "2026-11-27 18:00:59.1", everything)]
    assert shown[-3:] == [line(59, "ERROR statement"), "select 1", "from nothing"]


def test_a_long_log_is_read_from_its_end(tmp_path):
    path = tmp_path / "log"
    path.write_text("".join(line(0, f"LOG {n:060}") + "\n" for n in range(20_000)))
    numbers = [int(text) for text in texts(tail(Source("x", path), 5_000, "", everything))]
    assert numbers == list(range(15_000, 20_000))


def test_a_log_that_is_missing_or_a_link_is_empty(tmp_path, log):
    link = tmp_path / "link"
    link.symlink_to(log.path)
    os.mkfifo(tmp_path / "pipe")
    for name in ("none", "link", "pipe"):
        assert tail(Source("x", tmp_path / name), 5, "", everything) == []


def test_an_endless_line_is_cut(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"x" * 3_000_000 + b"\n" + line(1, "LOG end").encode() + b"\n")
    shown = tail(Source("x", path), 5, "", everything)
    assert max(len(entry.text) for entry in shown) <= 4_000
    assert shown[-1].text == line(1, "LOG end")


def test_the_console_logins_of_pooler_are_hidden_unless_all_lines_are_wanted():
    assert not shows(line(1, CONSOLE))
    assert not shows(line(1, CONSOLE), text="LOG")
    assert shows(line(1, CONSOLE), everything=True)
    refused = "LOG C-0x5: pgbouncer/pgbouncer_admin_pgbouncer@10.0.0.9:6432 login attempt: db=x"
    assert shows(line(1, refused))
    assert shows(line(1, "LOG RELOAD command issued"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("demo/relation_id_1@127.0.0.1:{own} login attempt: db=demo", False),
        ("demo/relation_id_1@[::1]:{own} closing because: client close request (age=0s)", False),
        ("a b@c/relation_id_12@127.0.0.1:{own} login attempt: db=x", False),
        ("demo/relation_id_1@127.0.0.1:{other} login attempt: db=demo", True),
        ("demo/relation_id_1@127.0.0.1:{own} closing because: no such database", True),
    ],
)
def test_the_logins_of_pooler_as_an_application_are_hidden(tmp_path, text, shown):
    with socket.create_server(("127.0.0.1", 0)) as server:
        own = server.getsockname()[1]
        own_logins.remember(tmp_path, server.fileno())
    text = text.format(own=own, other=own - 1)
    logins = OwnLogins.of(tmp_path)
    for seconds, found in ((0, shown), (-3600, True)):
        time_text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + seconds))
        logged = f"{time_text}.123 UTC [7] LOG C-0x55: {text}"
        assert shows(logged, logins) == found
        assert shows(logged, logins, everything=True)


def test_the_file_of_own_logins_is_private_and_does_not_grow_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(own_logins, "MOST", 100)
    for _ in range(50):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            own_logins.remember(tmp_path, server.fileno())
    file = tmp_path / own_logins.FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_size < 130
    assert port in OwnLogins.of(tmp_path).times


def test_a_damaged_file_of_own_logins_hides_nothing(tmp_path):
    (tmp_path / own_logins.FILE).write_bytes(b"\xff 1\nx\n999999999999 7\n1 2 3\n")
    logged = "LOG C-0x5: demo/relation_id_1@127.0.0.1:7 login attempt: db=demo"
    assert shows(line(1, logged), OwnLogins.of(tmp_path))
    assert OwnLogins.of(tmp_path / "none").times == {}


def test_a_link_in_place_of_the_file_of_own_logins_is_not_followed(tmp_path):
    (tmp_path / "other").write_text("")
    (tmp_path / own_logins.FILE).symlink_to(tmp_path / "other")
    with socket.create_server(("127.0.0.1", 0)) as server:
        own_logins.remember(tmp_path, server.fileno())
    assert (tmp_path / "other").read_text() == ""


def test_a_line_of_megabytes_does_not_end_the_following(tmp_path):
    log = Source("postgresql", tmp_path / "log")
    log.path.write_text("")
    follower = Follower([log])
    with log.path.open("a") as file:
        file.write(line(58, "x" * 2_500_000) + "\n" + line(59, "LOG after") + "\n")
    seen = [entry for _ in range(5) for entry in follower.new_lines([log])]
    assert seen[0].text.startswith(line(58, "xxx"))
    assert seen[-1].text == line(59, "LOG after")


def test_new_lines_are_followed_also_in_new_and_replaced_logs(log, tmp_path):
    follower = Follower([log])
    assert follower.new_lines([log]) == []
    with log.path.open("a") as file:
        file.write(line(59, "LOG new") + "\n" + "half")
    assert texts(follower.new_lines([log])) == ["new"]
    with log.path.open("a") as file:
        file.write(" whole\n")
    assert [entry.text for entry in follower.new_lines([log])] == ["half whole"]
    other = Source("pgbouncer/0/1", tmp_path / "other")
    other.path.write_text(line(58, "LOG other") + "\n")
    log.path.unlink()
    log.path.write_text(line(59, "LOG replaced") + "\n")
    assert texts(follower.new_lines([log, other])) == ["other", "replaced"]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("30s", "2026-11-27 18:29:30"),
        ("10m", "2026-11-27 18:20:00"),
        ("2h", "2026-11-27 16:30:00"),
        ("1d", "2026-11-26 18:30:00"),
        ("2026-11-27T18:00", "2026-11-27 18:00:00"),
        ("2026-11-27", "2026-11-27 00:00:00"),
        ("2026-11-27T18:00+02:00", "2026-11-27 16:00:00"),
    ],
)
def test_a_time_is_an_age_or_a_date(text, time):
    assert moment(text, NOW) == time


@pytest.mark.parametrize("text", ["", "x", "10", "-5m", "999999d", "2026-13-01"])
def test_another_time_is_refused(text):
    with pytest.raises((ValueError, OverflowError)):
        moment(text, NOW)
