# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each builds its own environment from the hash-pinned lock; nothing is installed by hand.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.locked
# Containers: Compose as a plug-in of the client where it is one, else the program of its own. MESH_BASE names another
# base image than the public one, MESH_IMAGE another name for the image.
COMPOSE    ?= $(if $(shell docker compose version 2>/dev/null),docker compose,docker-compose)
MESH_BASE  ?= python:3.12-slim-bookworm
MESH_IMAGE ?= ai-memory:local

.PHONY: test lint types unit demo bench simulate simulate-sum mutate mutate-guards scale test-mesh test-faults test-kills liar flood env clean lock image wheelhouse base cluster-up cluster-down cluster-status test-cluster sbom sbom-check audit licences scan supply

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# In as many processes as there are cores, at most four; the tests of one file stay together.
unit: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

# Three real nodes on this machine, real text, a stranger at the gate.
demo: $(STAMP)
	$(BIN)/ai-memory demo

# 60,000 memories over three nodes, each killed with -9 in the middle of pushes, twenty times over; restores.
test-mesh: $(STAMP)
	MESH_RECORDS=60000 MESH_KILLS=20 $(BIN)/python -m pytest -q -s --timeout 1500 tests/mesh

# Every command that writes, killed with -9 at each of its steps and at 50 random moments. Again: KILL_SEED=7 make test-kills.
test-kills: KILLS ?= 50
test-kills: KILL_STEPS ?= 1000
test-kills: $(STAMP)
	KILLS=$(KILLS) KILL_STEPS=$(KILL_STEPS) $(BIN)/python -m pytest -q -s --timeout 3000 tests/kills

# 200 seeded rounds of faults over network namespaces with delay and loss; Linux and root. Again: FAULT_SEED=7 FAULT_ROUNDS=1.
test-faults: $(STAMP)
	PYTHONPATH=tests/support $(BIN)/python -m tests.faults

# Two nodes and a listed liar, who sends what it can for LIAR_SECONDS (300): a write arrives within 2 s, and 300 MiB suffice.
liar: $(STAMP)
	PYTHONPATH=tests/support $(BIN)/python -m tests.liar

# A stranger with 16 addresses floods a real node in every way, a minute each; a listed peer connects meanwhile. ONLY=word.
flood: $(STAMP)
	PYTHONPATH=tests/support $(BIN)/python -m tests.flood $(if $(SECONDS_EACH),--seconds $(SECONDS_EACH)) $(if $(ONLY),--only '$(ONLY)')

# Histories of whole meshes under virtual time, with an oracle (docs/simulation.md): N of them, or for MINUTES. SEED, JOBS,
# SHAPE and BOOK may be given; REPLAY='shape/seed/number' plays one again. `simulate-sum` sums the book: BOOKS='a b'.
SIMULATION := PYTHONPATH=tests/support $(BIN)/python -m tests.simulation
simulate: $(STAMP)
	$(SIMULATION) simulate $(N) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(SHAPE),--shape '$(SHAPE)') $(if $(BOOK),--book $(BOOK)) $(if $(REPLAY),--replay '$(REPLAY)')

simulate-sum: $(STAMP)
	$(SIMULATION) sum $(BOOKS)

# Every rule broken by hand: after how many histories is it found? Writes the table of docs/simulation.md.
mutate: $(STAMP)
	$(SIMULATION) mutate --table docs/simulation.md $(if $(JOBS),--jobs $(JOBS))

# Every guard of tls/ and sync/ taken away, one at a time: whose tests stay green? Goes on where it ended (guards.book).
# ONLY=tls/channel.py names modules, LIMIT=50 ends after so many, FLAGS=--hasty tries the module's own tests alone.
mutate-guards: $(STAMP)
	PYTHONPATH=tests/support $(BIN)/python -m tests.guards $(if $(ONLY),--only $(ONLY)) $(if $(LIMIT),--limit $(LIMIT)) $(FLAGS)

# What a change costs in meshes of up to 1,000 nodes, in virtual time. Writes the table of docs/scale.md.
scale: $(STAMP)
	$(SIMULATION) scale --table docs/scale.md

image:
	docker build --build-arg BASE=$(MESH_BASE) --build-arg SOURCE_DATE_EPOCH=$(shell git log -1 --format=%ct 2>/dev/null || echo 0) -t $(MESH_IMAGE) .

# For an image without the index: all its wheels, for the Python of the base image. `make image` uses the folder if it is there.
wheelhouse: $(STAMP)
	$(BIN)/python -m pip download -q --no-deps --require-hashes --only-binary :all: --python-version $(or $(WHEELS_FOR),3.12) -d wheelhouse -r requirements.lock -r build.lock

# For an image without a registry: a base image out of what this machine has. Then: MESH_BASE=ai-memory-base:local make wheelhouse image
base:
	tests/cluster/base.sh ai-memory-base:local

cluster-up:
	$(COMPOSE) up -d --build

# Stops and removes the containers; the volumes, and all that is in them, stay.
cluster-down:
	$(COMPOSE) --profile stranger down

# Every node is asked, also where one says that somebody is not in step; the exit code is that of the last which did.
cluster-status:
	@result=0; for node in a b c; do $(COMPOSE) exec -T $$node ai-memory sync status || result=$$?; done; exit $$result

# Three containers, everything that can befall them, and a ledger of what they acknowledged. Leaves nothing behind.
test-cluster: $(STAMP)
	tests/cluster/engine.sh
	$(BIN)/python -m pytest -q -s --timeout 900 tests/cluster

# One run, one table: each figure beside the limit of its parts.
bench: $(STAMP)
	PYTHONPATH=tests/support $(BIN)/python -m tests.bench

# Releases, docs/release.md. KEYS=folder names another keyring, REMOTE=none leaves out the comparison with `origin`.
RELEASING = $(if $(KEYS),--keys $(KEYS)) $(if $(REMOTE),--remote $(REMOTE))

.PHONY: verify-tag reproduce release test-release

# Is the tag of this version signed by somebody on the keyring, unmoved, and what lies here?
verify-tag: $(STAMP)
	$(BIN)/python -m node.release verify-tag $(RELEASING) $(or $(VERSION),$(error say which: VERSION=1.2.3))

# Wheel and sdist of HEAD, built three times in as different circumstances as this machine has, compared byte for byte.
reproduce: $(STAMP)
	$(BIN)/python -m node.release reproduce

# dist/release-VERSION of the signed tag. RELEASE_KEY names the file with the builder's private key.
release: $(STAMP)
	$(BIN)/python -m node.release release $(RELEASING) --key $(or $(RELEASE_KEY),$(error RELEASE_KEY=file is needed: the private key of the builder)) $(or $(VERSION),$(error say which: VERSION=1.2.3))

# A whole release in a throw-away clone, then every file of it altered in turn.
test-release: $(STAMP)
	$(BIN)/python -m pytest -q -s --timeout 900 tests/release/whole

env: $(STAMP)

# The stamp depends on the lock alone: an unchanged lock means an unchanged environment.
$(STAMP): requirements-dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python %d.%d found, 3.11 or newer needed: set PYTHON=" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-dev.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	touch $@

# The bill of materials beside what is built; the same is inside the wheel. Another version of the format: SBOM_SPEC=1.7.
sbom: $(STAMP)
	mkdir -p dist
	$(BIN)/python -m node.release.sbom --out dist/ai-memory.cdx.json --spec $(or $(SBOM_SPEC),1.6)

# A fresh environment from the locks, and the bill against what is really in it, both ways.
sbom-check: $(STAMP)
	$(BIN)/python -m node.release.installed

# Every pin against known advisories. ADVISORIES=FILE takes them from OSV records in a file; without either it has not run.
audit: $(STAMP)
	$(BIN)/python -m node.release.audit $(if $(ADVISORIES),--advisories $(ADVISORIES))

licences: $(STAMP)
	$(BIN)/python -m node.release.licences

scan: $(STAMP)
	$(BIN)/python -m node.release.scan

# Of the supply chain, all that needs no advisories. `make audit` needs them.
supply: sbom-check licences scan

# Needs `uv` on PATH; everything else here does not. A version has to be COOLDOWN days old before it is pinned.
# For a fix that cannot wait: LOCK_FLAGS='--exclude-newer-package NAME=DATE'.
COOLDOWN ?= 7
LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --exclude-newer "$$($(PYTHON) -c 'import datetime as d; print((d.datetime.now(d.timezone.utc) - d.timedelta(days=$(COOLDOWN))).strftime("%Y-%m-%dT00:00:00Z"))')" $(LOCK_FLAGS)
lock:
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) --group dev pyproject.toml -o requirements-dev.lock
	$(LOCK) --group build -o build.lock

clean:
	rm -rf $(VENV) dist wheelhouse .pytest_cache .mypy_cache .ruff_cache .hypothesis
