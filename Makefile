# Requires Debian or Ubuntu with Python >= 3.11; `make up` installs the rest. Docker is not required.

PYTHON ?= python3
export PYTHON
# Hundreds of processes import the project; without its bytecode, each of them would compile it.
unexport PYTHONDONTWRITEBYTECODE
local = .venv/bin/python -m deploy.local

.DEFAULT_GOAL := help
.PHONY: help up down status logs reset env test test-containers chaos bench docs screenshots secrets lint lock

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

down status logs reset env: .venv/bin/python

.venv/bin/python:
	@echo "nothing is installed yet; run: make up" >&2; exit 1

up: ## install missing packages, start everything, wait until it is healthy
	@deploy/local/install.sh python broker database monitoring flower exporter
	@$(local) up

down: ## stop everything that `make up` started
	@$(local) down

status: ## show each process: state, uptime, CPU, memory, health, URL; S=60 measures CPU for a minute
	@$(local) status $(if $(S),--over $(S))

logs: ## follow all logs; P=order-relay for one process
	@$(local) logs $(P)

reset: ## stop everything and delete all data, without confirmation
	@$(local) reset

env: ## print addresses and keys as `export` lines, for eval in a shell
	@$(local) env

test: ## run the tests in parallel; T="tests/unit -k outbox" for some, N=0 for one at a time
	@deploy/local/install.sh python broker database monitoring flower exporter compiler asyncapi kubernetes browser
	@.venv/bin/pytest -n $(or $(N),auto) --dist loadscope $(T)

test-containers: ## run tests on a broker and a database in containers; requires Docker
	@deploy/local/install.sh python
	@.venv/bin/pytest --infrastructure=containers $(or $(T),tests/containers)

# Each variable selects a part; without any, the simulator and campaigns run.
simulated = $(or $(SEEDS),$(if $(RUNS)$(BUGS)$(MATRIX),,500))
campaigns = $(or $(RUNS),$(if $(SEEDS)$(BUGS)$(MATRIX),,5))
campaign = .venv/bin/python -m testkit.campaign --seed $(or $(SEED),1) --orders $(or $(ORDERS),250)
simulator = .venv/bin/python -m testkit.simulation --seeds $(simulated) --seed $(or $(SEED),1)

chaos: ## run the system with faults: RUNS=5 SEED=1 FAULTS=kill,clock, SEEDS=500, MATRIX=1, BUGS=1
	@deploy/local/install.sh python broker database compiler
	@$(if $(MATRIX),.venv/bin/pytest -n 0 -q --timeout 0 tests/faults/matrix --cells all)
	@$(if $(BUGS),$(campaign) --bugs)
# Campaigns often wait, so the simulator has the rest of the processors' time.
	@$(if $(and $(simulated),$(campaigns)),nice -n 5 $(simulator) & pid=$$!; trap "kill $$pid" INT TERM;) \
		status=0; \
		$(if $(campaigns),$(campaign) --runs $(campaigns) --faults "$(FAULTS)" || status=$$?;) \
		$(if $(simulated),$(if $(campaigns),wait $$pid,$(simulator)) || status=$$?;) \
		exit $$status

bench: ## measure the system's throughput; B="--only relay" for a part
	@deploy/local/install.sh python broker database monitoring flower exporter load
	@.venv/bin/python -m bench $(B)

docs: ## generate the documents that are derived from the contracts
	@deploy/local/install.sh python
	@.venv/bin/python -m tests.contract.regenerate
	@.venv/bin/python -m contracts

screenshots: ## take the pictures in docs/img again, in a few minutes
	@deploy/local/install.sh python broker database monitoring browser
	@.venv/bin/python -m testkit.browser.screenshots

secrets: ## write the secrets that docker-compose.yml reads, and its override for PARTS and RELAYS
	@deploy/local/install.sh python
	@.venv/bin/python -m deploy.compose

lint: ## check style, import directions, types, and contract compatibility
	@deploy/local/install.sh python
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/lint-imports
	@.venv/bin/mypy
	@.venv/bin/orderctl contracts check

lock: ## pin every dependency of setup.cfg, with its hashes
	@deploy/local/install.sh python
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --upgrade requirements/installer.in \
		--output-file requirements/installer.txt
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --extra dev setup.cfg --output-file requirements/dev.txt
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --constraint requirements/dev.txt setup.cfg \
		--output-file requirements/run.txt
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --constraint requirements/dev.txt \
		requirements/bench.in --output-file requirements/bench.txt
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --constraint requirements/dev.txt \
		requirements/flower.in --output-file requirements/flower.txt
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url requirements/exporter.in \
		--output-file requirements/exporter.txt
