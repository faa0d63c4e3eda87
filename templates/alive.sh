#!/bin/sh
# Exits with 0 if the PgBouncer process of a directory answers, or if there is no process to ask.
#
#     alive.sh DIRECTORY SOCKET
#
# If the process does not answer in LOOKS attempts, this script kills it and exits with 1. drain.sh ends
# with its process, and the supervisor starts both again. The kill is here and not in the supervisor,
# because Pebble acts only when a check begins to fail: it would not act again if the next process also
# stopped answering before the check had succeeded.
#
# A check that fails also runs a hook of the charm. So this script exits with 1 a single time if drain.sh has
# paused all databases of a process that started during a pause, for which it writes DIRECTORY/started-paused:
# the charm then ends the pause of the databases that are not paused. A notice of drain.sh would not reach the
# charm, because Juju reads only the notices of its own user.
#
# drain.sh writes the process id to DIRECTORY/pid, and removes that file before PgBouncer closes SOCKET.
# Each attempt takes two seconds at most:
# - With Perl, it sends an SSLRequest to SOCKET. PgBouncer answers with a byte, without a login
#   (https://www.postgresql.org/docs/current/protocol-message-formats.html).
# - A process that accepts no new connections may still serve its clients. Its event loop sleeps some
#   times a second, and each sleep is a voluntary context switch. So the process is killed only if it has
#   no such switch. A process that spins, is stopped or waits for a lock has none.
# - Without Perl, time that the kernel spends for the process counts as an answer, too: under full load
#   an event loop may never sleep.
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

# Field 15 of /proc/PID/stat, in ticks. It is counted after the name, which may contain spaces.
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
    # A refused connection takes no time, so wait before counting context switches.
    sleep 1
    [ "$(($(switches) - switches))" -gt 1 ] || [ "$works" -gt "$worked" ]
}

while is_pgbouncer; do
    is_alive 2>/dev/null && { ! rm "$directory/started-paused" 2>/dev/null; exit; }
    LOOKS=$((LOOKS - 1))
    [ "$LOOKS" -gt 0 ] && continue
    kill -KILL "$pid"
    echo "PgBouncer (process id $pid) did not answer at $socket, and was killed"
    exit 1
done
