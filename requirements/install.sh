#!/bin/sh
# Install packages into a virtual environment: install.sh DIRECTORY REQUIREMENTS [PYTHON]
set -eu

venv=$1 requirements=$2 python=${3:-}

fail() {
	printf '%s\n' "$@" >&2
	exit 1
}

is_current() {
	[ -x "$venv/bin/python" ] && [ -e "$venv/ready" ] && ! [ "$requirements" -nt "$venv/ready" ]
}

can_run() {
	"$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

parent=$(dirname -- "$venv")
if ! [ -w "$parent" ] || { [ -e "$venv" ] && ! [ -w "$venv" ]; }; then
	fail "user $(id -un) cannot use or change $venv, which has the packages of this project:" \
		"clone the repository into a directory of your own, or let user $(stat -c %U "$parent") run it once"
fi

# Two commands may start at the same time; the second waits, and finds the packages installed.
exec 9<"$requirements"
flock 9 2>/dev/null || true
if is_current; then
	exit 0
fi

# The first interpreter that is new enough and really runs (a shim may not).
for name in ${python:+"$python"} python3.13 python3.12 python3.11 python3; do
	if can_run "$name"; then
		python=$name
		break
	fi
	python=
done
[ -n "$python" ] || fail "Python 3.11 or later is needed, and there is none on the PATH: install it, or set PYTHON=/path/to/python3"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python cannot make virtual environments: install python3-venv"

echo "Installing the packages of $requirements into $venv: this takes up to a minute, once" >&2
rm -rf "$venv"
"$python" -m venv "$venv"
log=$venv/pip.log
if ! "$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$requirements" >"$log" 2>&1; then
	fail "pip cannot install the packages: check that this machine reaches the package index (\`$venv/bin/python -m pip config list\`), and run the command again" \
		"The first message of pip in $log: $(grep -m 1 -E 'WARNING|ERROR' "$log")"
fi
touch "$venv/ready"
