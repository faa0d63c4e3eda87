#!/bin/sh
# Runs PgBouncer so that a polite stop lets transactions finish.
#
# A supervisor can only say SIGTERM, on which PgBouncer from 1.23 waits until every client has gone
# of its own accord, and before 1.23 does not wait at all. SIGINT is what drains: no new work, and
# connections close as their transactions end. Whoever still holds one after PATIENCE seconds
# loses it, before the supervisor kills us without asking.
#
# PgBouncer gets a session of its own, because the supervisor signals the whole process group.
PATIENCE=20
last_call() {
    # Nothing of the supervisor's may stay open here: it would wait for that, too.
    exec </dev/null >/dev/null 2>&1
    sleep "$PATIENCE"
    kill -QUIT "$pooler"
}
setsid "$@" &
pooler=$!
trap 'kill -HUP "$pooler"' HUP
trap 'kill -INT "$pooler"; last_call & late=$!' TERM INT
while :; do
    wait "$pooler"
    code=$?
    # A signal ends the wait too; PgBouncer has gone only when it no longer answers to one.
    kill -0 "$pooler" 2>/dev/null || break
done
[ -z "$late" ] || kill "$late" 2>/dev/null
exit "$code"
