#!/bin/sh
# Exits with 0 if the PgBouncer process of a directory answers, or if there is no process to ask.
#
#     alive.sh DIRECTORY SOCKET
#
# A process that does not answer in LOOKS looks is killed, and the exit code is 1. drain.sh ends with
# its process, and the supervisor starts both again. This script kills, and not the supervisor: Pebble
# acts when a check begins to fail, and does not act again if the next process stops answering before
# the check has succeeded.
#
# drain.sh writes the process id to DIRECTORY/pid, and removes that file before PgBouncer closes SOCKET.
# In each look, which takes two seconds at most:
# - Where there is Perl, it sends an SSLRequest to SOCKET, which PgBouncer answers with a byte without
#   any login (https://www.postgresql.org/docs/current/protocol-message-formats.html).
# - A process that opens no more connections may still serve those that are open. Its event loop goes to
#   sleep some times a second, which is a voluntary context switch: so a process is killed only if there
#   is no such switch either. A process that spins, is stopped or waits for a lock has none.
# - Without Perl, time that the kernel works for the process counts too: under full load an event loop
#   need not sleep.
: "${LOOKS:=3}"
ANSWER_SECONDS=1
directory=$1 socket=$2
{ read -r pid <"$directory/pid"; } 2>/dev/null || exit 0

is_pgbouncer() {
    { read -r name <"/proc/$pid/comm"; } 2>/dev/null && [ "$name" = pgbouncer ]
}

switches() {
    while read -r name value; do
        [ "$name" != voluntary_ctxt_switches: ] || echo "$value"
    done <"/proc/$pid/status"
}

# In ticks: the field 15 of /proc/PID/stat, counted after the name, which may have spaces.
system_time() {
    read -r stat <"/proc/$pid/stat"
    # shellcheck disable=SC2086 # split into fields
    set -- ${stat##*) }
    echo "${13}"
}

answers() {
    perl -MSocket -e '
        alarm $ARGV[1];
        socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or exit 1;
        connect($socket, sockaddr_un($ARGV[0])) or exit 1;
        syswrite($socket, pack("NN", 8, 80877103)) or exit 1;
        exit(sysread($socket, my $answer, 1) ? 0 : 1);
    ' "$socket" "$ANSWER_SECONDS"
}

is_alive() {
    switches=$(switches) worked=0 works=0
    if command -v perl >/dev/null; then
        answers && return
    else
        worked=$(system_time)
        sleep "$ANSWER_SECONDS"
        works=$(system_time)
    fi
    # Where the connection was refused, no time has passed yet.
    sleep 1
    [ "$(($(switches) - switches))" -gt 1 ] || [ "$works" -gt "$worked" ]
}

while is_pgbouncer; do
    is_alive 2>/dev/null && exit
    LOOKS=$((LOOKS - 1))
    [ "$LOOKS" -gt 0 ] && continue
    kill -KILL "$pid"
    echo "PgBouncer (process id $pid) did not answer at $socket, and was killed"
    exit 1
done
