# `make up` runs the pooler on this machine, `make check` is the quick test, `make test test-root` is the whole test.

# The first interpreter that is new enough and really runs (a shim may not).
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
TOX = .venv-tox/bin/tox
DISCOVER = $(if $(PYTHON),--discover $(shell command -v $(PYTHON)))
ROOT = $(filter 0,$(shell id -u))
COMMA = ,
SPACE = $() $()

.PHONY: up down check test test-root one format words lint types docs core coverage unit integration pages older juju \
	promises attacks alerts proof flows bench lock clean pack packed

up down:
	@./pooler $@

check: .venv-tox/ready ## lint, types, and the tests without real servers
	$(call together,unit core lint docs)

# Tests with real servers mostly wait, so the other environments run beside them.
test: .venv-tox/ready ## all of check, and the tests with real servers
	$(call together,integration unit core lint docs)
	@echo "make test passes. The rest, for root: make test-root"

# Promises, attacks and alerts measure seconds, and have steps of their own.
test-root: .venv-tox/ready ## the rest: older programs, coverage, the pages, the packed charm, what needs root, promises, attacks, alerts
	@$(if $(ROOT),,echo "make test-root needs root: sudo make test-root"; exit 1)
	$(call together,root pages older coverage)
	$(call together,packed)
	$(call together,promises attacks)
	$(call together,alerts)

# The environment of a test, by its path.
ENVIRONMENT = $(if $(filter tests/unit/domain% tests/unit/app%,$(T)),core,$(if $(filter tests/unit%,$(T)),unit,$(if $(filter tests/pages%,$(T)),pages,$(if $(filter tests/pack%,$(T)),packed,integration))))

one: .venv-tox/ready ## make one T=tests/unit/app/test_start.py::test_name A="-x --lf"
	@test -n "$(T)" || { echo "Which test? make one T=tests/unit/app, or T=FILE::TEST"; exit 1; }
	@$(TOX) exec -q $(DISCOVER) -e $(ENVIRONMENT) -- pytest -q $(T) $(A)

format: .venv-tox/ready ## format Python files, and repair what ruff can repair
	@$(TOX) exec -q $(DISCOVER) -e lint -- ruff check -q --fix-only src packing tests docs
	@$(TOX) exec -q $(DISCOVER) -e lint -- ruff format src packing tests docs

words: .venv-tox/ready ## the words of documentation, comments and messages, by Vale; make words P="src docs"
	@$(TOX) exec -q $(DISCOVER) -e lint -- python tests/words $(P)

# The review for Charmhub's listing looks for a line that begins with each of these names.
lint: ## style, words, imports, and types
unit: ## what runs without servers, except the domain and the application
integration: ## real PgBouncer, PostgreSQL and Kubernetes API
older: ## real PgBouncer 1.24, and the PostgreSQL of this machine
coverage: ## that tests of the domain and the application run every branch

lint docs core coverage unit integration older juju: .venv-tox/ready
	$(TOX) run -e $@

types: .venv-tox/ready ## types alone, of which lint is the rest
	@$(TOX) exec -q $(DISCOVER) -e lint -- basedpyright --level error

pages: .venv-tox/ready ## the commands of README, tutorial and how-to pages, run in order on a fresh machine
	$(TOX) run $(DISCOVER) -e $@

promises: .venv-tox/ready ## what the README promises, done with real parts; ends with a table
	$(TOX) run -e $@

attacks: .venv-tox/ready ## hostile packets, clients, servers and users, with real parts; ends with a table
	$(TOX) run -e $@

alerts: .venv-tox/ready ## each alert fires by a real fault, and a healthy hour by none; ends with a table
	$(TOX) run -e $@

proof: .venv-tox/ready ## what takes long: histories, faults, mutation; ends with a table
	$(TOX) run -e $@

pack: .venv-pack/ready ## the charm as the two files that `juju deploy` takes, and their sums
	@.venv-pack/bin/python -m packing

packed: .venv-tox/ready ## the packed charm: its bytes, its files, its first hook, and what charmcraft says of it
	$(TOX) run -e $@

flows: ## each path of the specification, with the tests that prove it
	$(PYTHON) tests/flows.py

bench: .venv-tox/ready ## what a quiet hook costs, and the pool beside a pool that is set up by hand, in ratios
	$(TOX) run -e $@

.venv-tox/ready: requirements/tox.txt
	@requirements/install.sh .venv-tox $< $(PYTHON)

.venv-pack/ready: requirements/pack.txt
	@requirements/install.sh .venv-pack $< $(PYTHON)

# These environments run at the same time. Their output is long, so the lines with failures come again at the end.
define together
$(TOX) run-parallel --parallel all $(DISCOVER) -e $(subst $(SPACE),$(COMMA),$(strip $(1))) || { echo "What failed:"; \
	cd .tox && grep -E '^(E   |FAILED|ERROR|Would reformat)|^ *FAILED: | error: ' $(patsubst %,%/log/*commands*.log,$(1)); exit 1; }
endef

lock: ## pin again what requirements/*.in ask for; needs uv
	for f in charm core unit lint juju local bench tox parts drivers docs prove pack charmcraft charmlint; do \
		uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
			--no-emit-index-url --no-emit-find-links requirements/$$f.in -o requirements/$$f.txt || exit 1; done

clean:
	rm -rf .venv .venv-tox .venv-pack .tox .ruff_cache .pytest_cache .coverage
