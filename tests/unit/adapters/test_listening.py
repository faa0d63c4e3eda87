"""Which program has a port, where the units listen, and the unit of systemd, without real servers."""

import os
import pathlib
import re
import socket

import pytest

from adapters.local import listeners, systemd
from pooler import listening
from pooler.arguments import CommandError, UsageError
from pooler.store import State, Store
from pooler.verbs.service import crontab_line, unit_name


@pytest.fixture
def listener():
    """A program that listens at a port of 127.0.0.9 alone."""
    with socket.create_server(("127.0.0.9", 0)) as opened:
        yield opened.getsockname()[1]


# ---- which program has a port ---------------------------------------------------------------
def test_the_program_that_listens_is_named_with_its_process(listener):
    found = listeners.holder("127.0.0.9", listener)
    assert (found.pid, found.user) == (os.getpid(), os.geteuid())
    assert str(found).endswith(f"(process {os.getpid()})")


def test_a_port_is_free_at_addresses_where_no_program_listens(listener):
    assert not listeners.is_free("127.0.0.9", listener)
    assert listeners.is_free("127.0.0.10", listener)
    assert not listeners.is_free("0.0.0.0", listener)
    assert not listeners.is_free("192.0.2.1", listener)


def test_a_program_at_all_addresses_has_the_port_of_each():
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as opened:
        port = opened.getsockname()[1]
        assert not listeners.is_free("127.0.0.2", port)
        assert listeners.holder("127.0.0.2", port).pid == os.getpid()


@pytest.mark.parametrize(
    ("holder", "said"),
    [
        (listeners.Holder(), "another program"),
        (listeners.Holder(user=0), "a program of user root"),
        (listeners.Holder(user=4_000_123), "a program of user number 4000123"),
        (listeners.Holder(7, ("nginx: master process",)), "nginx (process 7)"),
        (
            listeners.Holder(7, ("/bin/pgbouncer", "/a b/units/0/1/pgbouncer.ini")),
            "the pooler in /a b (process 7)",
        ),
    ],
)
def test_a_program_is_described_as_far_as_it_is_known(holder, said):
    assert str(holder) == said


# ---- where the units listen -----------------------------------------------------------------
@pytest.mark.parametrize(
    "text", ["", "laptop", "1.2.3", "192.0.2.1", "10.0.0.0/8", "a\nb", "::1%1", "fe80::1%lo"]
)
def test_what_is_no_address_of_this_machine_is_refused(text):
    with pytest.raises(UsageError, match="--listen: "):
        listening.listen_address(text)


def test_a_loopback_address_is_not_exposed_and_all_addresses_are():
    assert listening.listen_address("localhost") == "127.0.0.1"
    assert listening.listen_address("none") == ""
    assert not listening.exposes("")
    assert not listening.exposes("127.0.0.9")
    assert listening.exposes("0.0.0.0")


def test_clients_are_told_an_address_that_leads_to_this_machine():
    assert listening.reachable("127.0.0.9") == "127.0.0.9"
    assert listening.reachable("") == ""
    told = listening.reachable("0.0.0.0")
    listening.check_address(told)
    assert told != "0.0.0.0"


def test_two_first_starts_at_once_take_two_ports(tmp_path):
    first, second = State(), State()
    with (
        listening.chosen_port(Store(tmp_path / "a"), first, 1, print),
        listening.chosen_port(Store(tmp_path / "b"), second, 1, print),
    ):
        assert listening.port_of(first) != listening.port_of(second)


def test_a_port_that_was_chosen_before_is_never_changed(tmp_path, listener):
    state = State(listen="127.0.0.9")
    state.model.options["listen_port"] = listener
    with (
        pytest.raises(
            CommandError, match=f"port {listener} of 127.0.0.9 is taken by .*{os.getpid()}"
        ),
        listening.chosen_port(Store(tmp_path), state, 1, print),
    ):
        pass


# ---- the start at boot ----------------------------------------------------------------------
def test_a_path_with_any_character_survives_in_a_unit_of_systemd():
    words = ['/a b/100%/"quoted"\\/$x/pooler', "watch", "$y"]
    text = systemd.unit_text(words, ["/bin/true"], {"POOLER_HOME": "/h 1/%n"}, of_machine=True)
    assert 'ExecStart="/a b/100%%/\\"quoted\\"\\\\/$x/pooler" "watch" "$$y"\n' in text
    assert 'Environment="POOLER_HOME=/h 1/%%n"\n' in text
    assert "WantedBy=multi-user.target" in text
    # PgBouncer and PostgreSQL go on if only the main process ends.
    assert "\nKillMode=process\n" in text
    assert "WantedBy=default.target" in systemd.unit_text(words, words, {}, of_machine=False)


def test_each_home_has_a_unit_of_its_own():
    names = {unit_name(pathlib.Path(home)) for home in ("/a", "/b")}
    assert len(names) == 2
    assert all(re.fullmatch(r"pgbouncer-k8s-[0-9a-f]{8}\.service", name) for name in names)


def test_a_line_of_crontab_has_the_home_and_no_bare_percent_sign():
    line = crontab_line(pathlib.Path("/a b/100%"))
    assert line.startswith("@reboot POOLER_HOME='/a b/100\\%' ")
    assert line.endswith("/pooler up")
