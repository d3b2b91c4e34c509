# Every target does all its own set-up: a virtual environment, the pinned packages, this package.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
PROTOS := $(wildcard proto/mrq/proto/*.proto)
WORKERS ?= 2
NATIVE := $(VENV)/.native
RUST   := $(wildcard mrq/native/Cargo.toml mrq/native/*/Cargo.toml mrq/native/*/src/*.rs) crates.txt infra/native/crates.py
# Where cargo is the suite doesn't run without the native data path, unless told to.
export MRQ_NATIVE ?= $(if $(shell command -v cargo),require,auto)
# What runs a second time in Python alone.
PURE_TESTS := tests/unit/shuffle tests/unit/codec tests/unit/tasks tests/integration/test_cli_submit.py

# Where this is set, each of the thousands of processes that the suite starts would compile mrq anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-pure test-rust lint images up down proto check-generated bench bench-cluster simulate docs clean

help: ## show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

$(READY): pyproject.toml constraints.txt
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

$(NATIVE): $(RUST) | $(READY)
	@echo "building the native data path, mrq/_native.abi3.so, where cargo is"
	@$(PY) infra/native/crates.py
	@test ! -e mrq/_native.abi3.so || touch $(NATIVE) # else it is tried again: cargo may be there next time

demo: export MRQ_NATIVE = auto
demo: $(NATIVE) ## count the words of Python's standard library, on this machine, and show the top
	@$(PY) workers/jobs/demo.py

test: $(NATIVE) test-rust ## run the whole suite, then half of it in Python alone
	$(PY) -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)
	@$(MAKE) --no-print-directory test-pure

test-pure: $(NATIVE) ## the quick half of the suite, without the native data path
	MRQ_NATIVE=off $(PY) -m pytest -n 2 --dist worksteal $(PURE_TESTS)

test-rust: $(NATIVE) ## the tests of the crates, where cargo is
	@$(PY) infra/native/crates.py --test

lint: $(READY) ## style, types and import contracts
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

images: ## Docker's images for the cluster: pulled where they can be, else built from Debian's packages
	@infra/airgap/compose
	@infra/airgap/images
	@PYTHON=$(PYTHON) infra/airgap/wheels
	@infra/airgap/cluster-images

up: images ## the cluster on this machine, with WORKERS=2 workers, once it is healthy
	docker compose up -d --wait --scale worker=$(WORKERS)

down: ## stop the cluster; its volumes stay (docker compose down -v removes them)
	docker compose down

proto: $(READY) ## regenerate mrq/proto from proto/
	$(PY) -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. $(PROTOS)

check-generated: proto docs ## is what is generated committed?
	@git diff --exit-code --stat -- mrq/proto docs || \
	  { echo "error: generated files differ from what is committed: run 'make proto docs', and commit them"; exit 1; }

simulate: $(NATIVE) ## 10,000 seeds of simulated chaos
	$(PY) tests/simulation/run.py --seeds 10000

bench: $(NATIVE) ## time mrq against its peers in one run (installs the peers)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(PY) benchmarks/run.py

bench-cluster: $(NATIVE) ## time the cluster beside the embedded engine and Celery (needs Docker)
	@infra/airgap/images rabbitmq:4.0 redis:8.0
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(PY) benchmarks/cluster.py
	$(PY) benchmarks/fetch.py

docs: $(READY) ## regenerate what is generated in docs/
	$(PY) infra/docs/pages.py

clean: ## remove the virtual environment and what the demo left
	rm -rf $(VENV) demo-out .demo-out.mrq
