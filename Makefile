.DEFAULT_GOAL := help
.PHONY: help env cluster-test demo test test-parts test-stacks test-torch test-gpu chaos fuzz lint format lock bench-engine bench-data bench-distributed bench-service bench-exactness bench-levels scaling reference clean

PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

# The stamp is newer than the lock file if and only if the locked versions are installed.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "gradfleet needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --compile-bytecode --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/installed  ## train hinge and softmax on real digits and compare them
	$(BIN)/gradfleet demo $(ARGS)

# Tests that start whole stacks spend most of their time waiting, so they run in parallel with the others.
test: .venv/installed  ## every test
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target test-parts test-stacks

test-parts: .venv/installed
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --ignore tests/chaos --ignore tests/e2e --ignore tests/cluster

test-stacks: .venv/installed
	$(BIN)/python -m pytest tests/chaos tests/e2e

env:  ## write .env with new secrets for docker compose
	$(PYTHON) deploy/write-env

cluster-test: .venv/installed  ## tests of the Compose cluster on a Docker engine: scaling, killed containers, bitwise comparison
	$(BIN)/python -m pytest --timeout 3600 -s tests/cluster

chaos: .venv/installed  ## the longer version of the fault tests; GRADFLEET_CHAOS_SEED=... repeats one run
	GRADFLEET_CHAOS_ROUNDS=$${GRADFLEET_CHAOS_ROUNDS:-5} $(BIN)/python -m pytest tests/chaos

fuzz: .venv/installed  ## the longer version of the API's schema tests; GRADFLEET_FUZZ_SEED=... repeats one run
	GRADFLEET_FUZZ_SEED=$${GRADFLEET_FUZZ_SEED:-$$(date +%s)} GRADFLEET_FUZZ_EXAMPLES=$${GRADFLEET_FUZZ_EXAMPLES:-300} $(BIN)/python -m pytest --timeout 3600 tests/service/http/test_schemathesis.py

lint: .venv/installed  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed  ## format the code and apply ruff's fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The images contain the tested versions, without the test dependencies.
LOCK_IMAGE = $(BIN)/uv pip compile --quiet pyproject.toml - --extra service --constraint requirements.lock --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --no-annotate

lock: .venv/installed  ## resolve the dependencies again
	$(BIN)/uv pip compile pyproject.toml --extra service --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --upgrade --output-file requirements.lock
	echo hatchling | $(LOCK_IMAGE) --extra fast --output-file deploy/requirements.lock
	echo 'cupy-cuda12x[ctk]' | $(LOCK_IMAGE) --extra cuda --output-file deploy/requirements-gpu.lock

# PyTorch is large and the engine needs NumPy only, so the comparisons with PyTorch use a separate environment.
.venv-bench/installed: pyproject.toml
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check numpy numba pyarrow threadpoolctl torch scikit-learn pytest pytest-timeout hypothesis pyyaml
	touch $@

bench-engine: .venv-bench/installed  ## compare a training step with PyTorch; ARGS=--quick for a short version
	.venv-bench/bin/python -m benchmarks.engine $(ARGS)

bench-data: .venv-bench/installed  ## compare loading a batch with numpy.take and PyTorch's DataLoader; ARGS=--quick
	.venv-bench/bin/python -m benchmarks.data $(ARGS)

# Ray's own tools need extra packages (a dashboard, pandas) that the project does not need, so they are installed here. The
# stack under test is started from the project's environment, as a user starts it.
.venv-bench/distributed: .venv-bench/installed
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check 'ray[default,train]'
	touch $@

bench-distributed: .venv/installed .venv-bench/distributed  ## compare steps, exchange and start of a distributed job with other tools; ARGS=--quick
	.venv-bench/bin/python -m benchmarks.distributed $(ARGS)

bench-service: .venv/installed  ## measure the REST API under load; ARGS=--quick
	$(BIN)/python -m benchmarks.service $(ARGS)

bench-exactness: .venv-bench/installed  ## measure what exactness costs: steps that need not be exact, and PyTorch; ARGS=--quick
	.venv-bench/bin/python -m benchmarks.exactness $(ARGS)

bench-levels: .venv/installed  ## measure a training step at each level of arithmetic of this CPU
	$(BIN)/python -m benchmarks.levels

scaling: .venv/installed  ## measure the cost of messages and write docs/scaling.md
	$(BIN)/python -m benchmarks.scaling

test-torch: .venv-bench/installed  ## the tests that need PyTorch
	.venv-bench/bin/python -m pytest --noconftest tests/core/test_torch_comparison.py tests/core/test_torch_images.py tests/core/test_torch_googlenet.py tests/core/test_definitions.py tests/core/optimizers/test_optimizers.py

# The next `make` after a change of the lock file removes CuPy again.
test-gpu: .venv/installed  ## the tests that need a GPU: CuPy, and CUDA 12 on the machine
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --editable '.[service,cuda]'
	$(BIN)/python -m pytest tests/gpu

reference: .venv/installed  ## write docs/reference from the docstrings
	$(BIN)/python docs/make_reference.py

clean:  ## remove everything that make created
	rm -rf .venv .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis
