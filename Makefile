# The doors of the house. `make` alone lists them.
#
# Variables: VENV, DEV_VENV and HOST_VENV (where the environments are), WHEELS (folder with the CPU wheel of torch),
# TORCH_CPU_INDEX, PYTHON; for train SPEC and RUNS_DIR; for test PYTEST_ARGS and JOBS.
.PHONY: help env dev-env host-env base-image sbom train test test-slow test-container proof fuzz golden golden-accept lint bench lock clean

VENV ?= .venv
DEV_VENV ?= .venv-dev
HOST_VENV ?= .venv-host
SBOM_VENV ?= .venv-sbom
QUICKSTART = runs/quickstart.yaml
SPEC ?= $(QUICKSTART)
RUNS_DIR ?=
JOBS ?= auto
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 60
DEV_BIN = $(DEV_VENV)/bin
TEST = JOBS=$(JOBS) tools/test.sh $(DEV_BIN)/python $(DEV_VENV)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r a b; do printf '%-16s %s\n' "$$a" "$$b"; done

env: ## make the environment for training in VENV (.venv)
	@tools/install.sh $(VENV) docker/requirements-cpu.lock

dev-env: ## make the environment for tests and checks in DEV_VENV (.venv-dev)
	@tools/install.sh $(DEV_VENV) docker/requirements-dev.lock

host-env: ## make the environment of a host that only starts containers in HOST_VENV (.venv-host); no torch
	@tools/install.sh $(HOST_VENV) docker/requirements-host.lock

base-image: ## make the base images from Debian packages, where no container registry is reachable
	@docker/base.sh

sbom: ## write the Python packages of the images, as CycloneDX, to build/sbom-cpu.json and build/sbom-cuda.json
	@tools/install.sh $(SBOM_VENV) docker/requirements-sbom.lock
	@mkdir -p build
	@for target in cpu cuda; do \
		awk '/^[^ ]/ { skip = /sys_platform == "darwin"/ } !skip' docker/requirements-$$target.lock >build/locked-$$target.txt; \
		PYTHONWARNINGS=ignore::UserWarning $(SBOM_VENV)/bin/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml \
			--output-file build/sbom-$$target.json build/locked-$$target.txt || exit; \
	done

train: env ## environment, then train, reconstruct and show the result of SPEC (runs/quickstart.yaml)
	@$(VENV)/bin/harness run $(SPEC) $(if $(RUNS_DIR),--runs-dir "$(RUNS_DIR)") \
		$(if $(filter $(QUICKSTART),$(SPEC)),--require 'phase_correlation>=0.8')

test: dev-env ## environment, then the tests, then those of the science again with the shape checker on
	$(TEST) all $(PYTEST_ARGS)

test-slow: dev-env ## environment, then the tests that take longer
	$(TEST) slow $(PYTEST_ARGS)

test-container: dev-env ## environment, then the tests that build and run containers; they need a Docker engine
	$(TEST) container $(PYTEST_ARGS)

proof: dev-env ## environment, then the proofs of exactness: deaths, faults and planted differences (PYTEST_ARGS)
	$(TEST) proof $(PYTEST_ARGS)

fuzz: dev-env ## feed the readers of specs and data with mutilated input, each for FUZZ_SECONDS (60)
	@$(DEV_BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --upgrade \
		--target $(DEV_VENV)/fuzz --requirement docker/requirements-fuzz.lock
	@for reader in yaml npz arrays; do \
		PYTHONPATH=$(DEV_VENV)/fuzz:$(CURDIR) $(DEV_BIN)/python -m tests.fuzz $$reader $(FUZZ_SECONDS) || exit 1; \
	done

golden: dev-env ## train runs/ci.yaml twice and hold it against the golden of this environment
	@$(DEV_BIN)/harness golden check runs/ci.yaml \
		--junit build/golden.xml --json build/golden.json --markdown build/golden.md

golden-accept: dev-env ## accept what runs/ci.yaml comes to now as the golden of this environment (ACCEPT_ARGS)
	@$(DEV_BIN)/harness golden accept runs/ci.yaml $(ACCEPT_ARGS)

lint: dev-env ## style, types, import contracts and dead code
	$(DEV_BIN)/ruff check
	$(DEV_BIN)/ruff format --check
	$(DEV_BIN)/mypy
	$(DEV_BIN)/lint-imports --no-logo
	$(DEV_BIN)/vulture

bench: dev-env ## how fast training and inference are beside what the processor could do (BENCH_ARGS)
	$(DEV_BIN)/python -m benchmarks.speed $(BENCH_ARGS)

lock: ## compile the locked requirements from pyproject.toml (needs uv)
	@tools/lock.sh

clean: ## remove the environments and the caches; results in runs/_out stay
	rm -rf $(VENV) $(DEV_VENV) $(HOST_VENV) $(SBOM_VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find harness ptycho_torch tests -name __pycache__ -type d -prune -exec rm -rf {} +
