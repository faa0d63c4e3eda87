"""Attacks by packets: without credentials, with the statistics password, or with a client's own."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from attack import NotHeld, attack, hold
from packets import (
    Closed,
    Refused,
    Scram,
    Wire,
    attributes,
    cancel,
    message,
    query,
    startup,
)
from stage import MEGABYTE, Client, Stage

TRIES = 8  #: connections, so that the kernel spreads them over both processes
UNKNOWN = ("mallory", "eve_of_nowhere")


@attack("1", "SCRAM final message without nonce (CVE-2026-19888)", "critical")
def final_without_nonce(stage: Stage) -> None:
    """A client without credentials answers the SCRAM challenge with a message that lacks its nonce.

    PgBouncer before 1.26.0 reads the missing attribute, and the process ends.
    """
    before = stage.processes()
    proof = "p=" + "A" * 43 + "="
    for _ in range(TRIES):
        for user in (stage.demo.user, stage.secrets()["stats_user"]):
            for final in (f"c=biws,{proof}", "c=biws", f"c=biws,r=,{proof}", ""):
                with contextlib.suppress(OSError, Closed, Refused), stage.wire(2) as wire:
                    wire.challenge(Scram("x"), user=user, database=stage.demo.database)
                    wire.send(message(b"p", final.encode()))
                    wire.receive()
    stage.untouched(before)


@attack("2", "startup parameter options=-c= (CVE-2026-107349)", "critical")
def empty_option(stage: Stage) -> None:
    """A client without credentials sends a StartupMessage whose options have an empty name.

    PgBouncer before 1.26.1 searches its list of ignored parameters for the empty name without end.
    """
    before = stage.processes()
    for options in ("-c=", "-c =", "--=", "-c=x -c="):
        for _ in range(TRIES // 2):
            with contextlib.suppress(OSError, Closed), stage.wire(0.3) as wire:
                wire.send(startup(user="x", database=stage.demo.database, options=options))
                wire.receive()
    stage.untouched(before)


@attack("3", "a process that hangs is noticed and replaced", "high")
def hung_process(stage: Stage) -> str:
    """A packet has made a process hang, and half of all clients wait without end.

    A stopped process stands for it. `pooler status` has to fail, and `pooler up` to replace it.
    """
    begin = time.monotonic()
    stage.tried("status")
    quiet = time.monotonic() - begin
    before = stage.processes()
    victim = before[0]
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        code, said = stage.tried("status")
        noticed = time.monotonic() - begin
        hold(code != 0, f"`pooler status` exits with 0 while a process hangs: {said[-200:]}")
        hold(
            noticed < quiet + 10,
            f"`pooler status` needs {noticed:.1f} s, and {quiet:.1f} s before",
        )
        stage.tried("up")
        hung = [process for process in stage.processes() if not process.answers]
        hold(not hung, "`pooler up` leaves the hung process in place")
        hold(len(stage.processes()) == len(before), "`pooler up` does not start another process")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGCONT)
    return f"`pooler status` takes {noticed:.1f} s to notice it, and {quiet:.1f} s before"


@attack("4", "second StartupMessage during SCRAM (CVE-2026-107350)", "high")
def second_startup(stage: Stage) -> None:
    """A user with a password begins to log in, and names another user before the proof is checked.

    With the statistics password, and with a client's own: it aims at the administrator of the
    console, and at another client whose server connection is idle. PgBouncer takes a second
    StartupMessage while the first has no pool, as with the name of a database that does not exist.
    """
    secrets = stage.secrets()
    with stage.related("mallory-4") as mallory:
        stage.by_pool(stage.demo).close()
        users = (
            (secrets["stats_user"], secrets["stats_password"]),
            (mallory.user, mallory.password),
        )
        own = [(*user, name) for user in users for name in ("no_such_database", mallory.database)]
        for user, password, database in own:
            _become(
                stage, user, password, database, secrets["admin_user"], "pgbouncer", "SHOW USERS"
            )
            victim = stage.demo
            _become(
                stage,
                user,
                password,
                database,
                victim.user,
                victim.database,
                "SELECT current_user",
            )


def _become(
    stage: Stage, user: str, password: str, database: str, other: str, there: str, question: str
) -> None:
    for _ in range(TRIES // 2):
        with contextlib.suppress(OSError, Closed, Refused), stage.wire(2) as wire:
            scram = Scram(password)
            challenge = wire.challenge(scram, user=user, database=database)
            wire.send(startup(user=other, database=there))
            wire.send(scram.final(challenge))
            wire.ready()
            answer = wire.ask(question)
            raise NotHeld(f"{user} is {other} in {there}: {question} answers {str(answer)[:80]}")


@attack("5", "packets of 256 MB and 2^31-2 bytes before a password", "high")
def huge_packets(stage: Stage) -> str:
    """A client without credentials declares a huge packet, and sends it.

    PgBouncer keeps what it has received of a packet until the packet is complete.
    """
    most = 0.0
    for length in (256 * MEGABYTE, 2**31 - 2):
        for kind in ("startup", "password", "query"):
            most = max(most, _huge(stage, kind, length))
            if most > 16:
                raise NotHeld(
                    f"a process grows by {most:.0f} MB for a {kind} packet"
                    f" of {length:,} bytes before a password"
                )
    settings = stage.processes()[0].settings
    limit = int(settings.get("client_login_timeout", "60").split(".")[0])
    hold(0 < limit <= 60, f"client_login_timeout is {limit} s")
    return f"a process grows by {max(most, 0):.1f} MB at most"


def _huge(stage: Stage, kind: str, length: int) -> float:
    header = length.to_bytes(4, "big")
    chunk, sent = b"x" * MEGABYTE, 0
    begin, before = time.monotonic(), {p.pid: p.memory for p in stage.processes()}
    with contextlib.suppress(OSError, Closed, Refused), stage.wire(3) as wire:
        if kind == "startup":
            wire.send(header + (196608).to_bytes(4, "big"))
        else:
            wire.send(startup(user=stage.demo.user, database=stage.demo.database))
            wire.authentication()
            wire.send((b"p" if kind == "password" else b"Q") + header)
        # 300 MB show what is kept; a client would go on.
        while sent < min(length, 300 * MEGABYTE) and time.monotonic() - begin < 4:
            wire.send(chunk)
            sent += len(chunk)
            if sent % (32 * MEGABYTE) == 0:
                grown = _grown(stage, before)
                if grown > 64:
                    return grown
        time.sleep(0.2)
        return _grown(stage, before)
    return _grown(stage, before)


def _grown(stage: Stage, before: dict[int, int]) -> float:
    grown = (p.memory - before[p.pid] for p in stage.processes() if p.pid in before)
    return max(grown, default=0) / MEGABYTE


@attack("6", "existing users told from unknown ones", "low")
def enumeration(stage: Stage) -> None:
    """A client without credentials compares what PgBouncer answers for names, each tried twice.

    A client's user, unknown names, a superuser, and the name of a stand-in have to look alike. The salts
    of unknown names are few, so a client that has collected them can tell these names from users.
    PgBouncer's own users are refused on the network without a proof.
    """
    names = (stage.demo.user, *UNKNOWN, "operator", "pgbouncer_unknown_5")
    seen = {name: (_shown(stage, name), _shown(stage, name)) for name in names}
    for name, (first, second) in seen.items():
        hold(first == second, f"{name} is told another thing at each try: {first}, then {second}")
    # Everything but the salt has to be equal.
    general = {name: shown.partition(" salt ")[0] for name, (shown, _) in seen.items()}
    unknown = general[UNKNOWN[0]]
    different = [f"{name} gets {text!r}" for name, text in general.items() if text != unknown]
    hold(not different, f"an unknown name gets {unknown!r}, and {'; '.join(different)}")


def _shown(stage: Stage, user: str) -> str:
    """All that a stranger sees of a user, without the parts that are new at each try."""
    told = "SCRAM"
    try:
        with stage.wire() as wire:
            scram = Scram("a wrong password")
            challenge = wire.challenge(scram, user=user, database=stage.demo.database)
            told = f"{len(attributes(challenge)['r'])} characters, {attributes(challenge)['i']} rounds"
            salt = attributes(challenge)["s"]
            told += f", {len(salt)} of salt"
            wire.send(scram.final(challenge))
            kind, body = wire.receive()
            text = body.replace(user.encode(), b"USER").decode(errors="replace")
            fields = [part for part in text.split("\0") if part[:1] in {"S", "C", "M"}]
            return f"{told}, {kind.decode()} {fields} salt {salt}"
    except Refused as error:
        return f"{told}: {str(error).replace(user, 'USER')}"
    except Closed:
        return f"{told}: closed"


@attack("9", "memory kept for startup parameters _pq_.*", "low")
def startup_leak(stage: Stage) -> None:
    """A client without credentials sends 1,000 StartupMessages with names of protocol extensions.

    PgBouncer before 1.26 keeps the answer that lists them.
    """
    _options(stage, 200)
    with stage.grows_less_than(2):
        _options(stage, 1000)


def _options(stage: Stage, times: int) -> None:
    names = {f"_pq_.{number}{'x' * 100}": "1" for number in range(60)}
    packet = startup(user="mallory", database=stage.demo.database, **names)
    for _ in range(times):
        with contextlib.suppress(OSError, Closed, Refused), stage.wire(2) as wire:
            wire.send(packet)
            wire.receive()


@attack("10", "1,000 connections that send nothing", "low")
def silent_connections(stage: Stage) -> str:
    """A client without credentials opens connections and sends nothing (slowloris)."""
    with contextlib.ExitStack() as stack, stage.grows_less_than(32):
        for _ in range(1000):
            stack.enter_context(Wire(stage.address))
        _, longest = stage.login_seconds(stage.demo)
        hold(longest < 3, f"a client needs {longest:.1f} s to log in meanwhile")
        limit = stage.processes()[0].settings.get("client_login_timeout", "60")
        hold(0 < float(limit) <= 60, f"client_login_timeout is {limit} s")
    return f"a client logs in within {longest:.2f} s meanwhile"


@attack("11", "2,000 cancels with forged keys", "high")
def forged_cancels(stage: Stage) -> None:
    """A client without credentials sends CancelRequests with keys that it makes up.

    The first two bytes are those of a real key, which name the process.
    """
    demo = stage.demo
    with stage.wire(20) as victim:
        key = victim.log_in(demo.password, user=demo.user, database=demo.database)
        begin = time.monotonic()
        victim.send(query("SELECT pg_sleep(2)"))
        for _ in range(2000):
            with contextlib.suppress(OSError, Closed), Wire(stage.address, 1) as wire:
                wire.send(cancel(key[:2] + os.urandom(len(key) - 2)))
            if time.monotonic() - begin > 10:
                break
        kinds = []
        while (kind := victim.receive()[0]) != b"Z":
            kinds.append(kind)
        hold(b"E" not in kinds, "a forged key cancels the query of another client")
        victim.send(query("SELECT pg_sleep(30)"))
        time.sleep(0.3)
        begin = time.monotonic()
        for _ in range(2):
            with contextlib.suppress(OSError, Closed), Wire(stage.address, 1) as wire:
                wire.send(cancel(key))
                wire.socket.recv(1)
        kinds = []
        while (kind := victim.receive()[0]) != b"Z":
            kinds.append(kind)
        hold(b"E" in kinds, "the true key does not cancel its query")
        hold(time.monotonic() - begin < 5, "the true key takes long after the forged ones")


@attack("12", "startup parameters replication, role, search_path, options", "high")
def startup_parameters(stage: Stage) -> None:
    """A client logs in with parameters that would make it another role or a replica.

    What PgBouncer passes on may only change the client's own session.
    """
    with stage.related("mallory-12") as mallory:
        for parameters in (
            {"replication": "true"},
            {"replication": "database"},
            {"role": "operator"},
            {"session_authorization": "operator"},
            {"search_path": "evil, pg_catalog"},
            {"options": "-c role=operator"},
            {"options": "-c session_authorization=operator -c is_superuser=on"},
            {"application_name": "x'; ALTER ROLE CURRENT_USER SUPERUSER; --"},
            {"client_encoding": "UTF8', role='operator"},
        ):
            with contextlib.suppress(OSError, Closed, Refused):
                _logs_in_as_itself(stage, mallory, parameters)
    with stage.by_pool(stage.demo) as session:
        user, path = session.execute(
            "SELECT current_user::text, current_setting('search_path')"
        ).fetchone()
        hold(user == stage.demo.user, f"another client is {user} afterwards")
        hold("evil" not in path, f"another client has search_path {path} afterwards")


def _logs_in_as_itself(stage: Stage, client: Client, parameters: dict[str, str]) -> None:
    with stage.wire() as wire:
        names = {"user": client.user, "database": client.database, **parameters}
        wire.log_in(client.password, **names)
        rows = wire.ask("SELECT current_user, session_user, current_setting('is_superuser')")
        expected = [client.user, client.user, "off"]
        hold(rows and rows[0] == expected, f"{parameters}: the session is {rows}")
        with contextlib.suppress(Refused):
            wire.ask("IDENTIFY_SYSTEM")
            raise NotHeld(f"{parameters}: the session takes commands of replication")
