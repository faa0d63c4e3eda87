#!/bin/sh
# Runs PgBouncer so that a polite stop breaks no transaction.
#
#     drain.sh clients|servers DIRECTORY SOCKET PROGRAM ARGUMENT...
#
# A supervisor can only say SIGTERM. What is good for clients takes more than that:
# - For a moment all goes on: whoever sends clients here has to hear first that we are leaving.
# - Then nobody new is let in, and clients may finish and leave. PgBouncer from 1.23 on does that on
#   SIGTERM (`clients`). Before that there is only SIGINT (`servers`), on which it ends with the last
#   transaction, and clients that wait for a connection lose theirs.
# - Who has not left after that begins no other transaction (SIGUSR1).
# - Who has not finished by then loses it, before the supervisor kills us without asking.
#
# PgBouncer gets a session of its own, because the supervisor signals the whole process group. So the
# supervisor's SIGKILL does not reach it either, and a PgBouncer that does not react to signals would
# go on to accept clients beside the next one:
# - A PgBouncer that does not answer when the stop begins is killed at once, by alive.sh.
# - A PgBouncer that is still there in the end is killed.
# - A PgBouncer that was left by a drain.sh that was killed is killed before the next one starts.
MOMENT=2 PATIENCE=14 LAST_CALL=4 LAST_WAIT=2
waits_for=$1 directory=$2 socket=$3
shift 3
leave() {
    # Nothing of the supervisor's may stay open here: it would wait for that, too.
    exec </dev/null >/dev/null 2>&1
    LOOKS=1 sh "${0%/*}/alive.sh" "$directory" "$socket" &
    sleep "$MOMENT"
    # A process that leaves closes its socket, and must not be asked any more.
    wait "$!"
    rm -f "$directory/pid"
    case $waits_for in
    clients)
        kill -TERM "$pooler"
        sleep "$PATIENCE"
        kill -USR1 "$pooler"
        ;;
    *)
        kill -INT "$pooler"
        sleep "$PATIENCE"
        ;;
    esac
    sleep "$LAST_CALL"
    kill -QUIT "$pooler"
    sleep "$LAST_WAIT"
    kill -KILL "$pooler"
}
{ read -r left <"$directory/pid" && read -r name <"/proc/$left/comm"; } 2>/dev/null
[ "$name" != pgbouncer ] || { kill -KILL "$left" && sleep 1; }
# Each client takes a file.
ulimit -Sn "$(ulimit -Hn)"
setsid "$@" &
pooler=$!
(umask 077 && echo "$pooler" >"$directory/pid")
trap 'kill -HUP "$pooler"' HUP
trap '[ -n "$late" ] || { leave & late=$!; }' TERM INT
while :; do
    wait "$pooler"
    code=$?
    # A signal ends the wait too; PgBouncer has gone only when it no longer answers to one.
    kill -0 "$pooler" 2>/dev/null || break
done
[ -z "$late" ] || kill "$late" 2>/dev/null
rm -f "$directory/pid"
exit "$code"
