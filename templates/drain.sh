#!/bin/sh
# Runs PgBouncer, and stops it without breaking a transaction.
#
#     drain.sh clients|servers DIRECTORY SOCKET PROGRAM ARGUMENT...
#
# A supervisor stops a service by SIGTERM. On SIGTERM this script stops PgBouncer in four phases:
# 1. For SERVE_SECONDS PgBouncer serves as before: Kubernetes needs a moment to stop sending clients.
# 2. For CLIENT_SECONDS PgBouncer accepts no new clients, and connected clients may finish and leave.
#    PgBouncer 1.23 or later does this on SIGTERM (`clients`). Earlier releases have only SIGINT
#    (`servers`): they end with the last transaction, and disconnect clients that wait for a connection.
# 3. For TRANSACTION_SECONDS no new transaction begins (SIGUSR1), and open transactions may end.
# 4. PgBouncer ends (SIGQUIT), or is killed after QUIT_SECONDS, before the supervisor kills this script.
#
# PgBouncer gets a session of its own, because the supervisor signals the whole process group. So the
# supervisor's SIGKILL does not reach PgBouncer either, and a PgBouncer that does not react to signals
# would go on to accept clients beside the next process:
# - If PgBouncer does not answer when the stop begins, alive.sh kills it at once.
# - If PgBouncer is still there after phase 4, it is killed.
# - If the supervisor killed an earlier drain.sh, its PgBouncer is killed before the next PgBouncer starts.
SERVE_SECONDS=2 CLIENT_SECONDS=14 TRANSACTION_SECONDS=4 QUIT_SECONDS=2
waits_for=$1 directory=$2 socket=$3
shift 3
leave() {
    # The supervisor waits until all files that it shares with this script are closed.
    exec </dev/null >/dev/null 2>&1
    LOOKS=1 sh "${0%/*}/alive.sh" "$directory" "$socket" &
    sleep "$SERVE_SECONDS"
    # PgBouncer closes its socket when it stops, so alive.sh must not ask it any more.
    wait "$!"
    rm -f "$directory/pid"
    case $waits_for in
    clients)
        kill -TERM "$pooler"
        sleep "$CLIENT_SECONDS"
        kill -USR1 "$pooler"
        ;;
    *)
        kill -INT "$pooler"
        sleep "$CLIENT_SECONDS"
        ;;
    esac
    sleep "$TRANSACTION_SECONDS"
    kill -QUIT "$pooler"
    sleep "$QUIT_SECONDS"
    kill -KILL "$pooler"
}
{ read -r left <"$directory/pid" && read -r name <"/proc/$left/comm"; } 2>/dev/null
[ "$name" != pgbouncer ] || { kill -KILL "$left" && sleep 1; }
# Each client needs a file descriptor.
ulimit -Sn "$(ulimit -Hn)"
# The former process may have left its socket.
[ ! -s "${0%/*}/paused" ] || rm -f "$socket"
setsid "$@" &
pooler=$!
(umask 077 && echo "$pooler" >"$directory/pid")
# A shell that started with SIGHUP ignored, as `nohup` does, cannot trap it. So the charm sends SIGUSR2.
trap 'kill -HUP "$pooler"' HUP USR2
trap '[ -n "$late" ] || { leave & late=$!; }' TERM INT
if [ -s "${0%/*}/paused" ]; then
    # PgBouncer handles signals before it makes its socket, and a login takes longer than this loop. So no
    # client begins a transaction.
    while [ ! -S "$socket" ] && kill -0 "$pooler" 2>/dev/null; do :; done
    kill -USR1 "$pooler"
    # alive.sh tells the charm, which ends this pause of all databases if an operator paused a single database.
    : >"$directory/started-paused"
fi >/dev/null 2>&1
while :; do
    wait "$pooler"
    code=$?
    # A signal also ends `wait`. PgBouncer has ended only if it cannot be signalled any more.
    kill -0 "$pooler" 2>/dev/null || break
done
[ -z "$late" ] || kill "$late" 2>/dev/null
rm -f "$directory/pid"
exit "$code"
