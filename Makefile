# Everything a fresh clone needs; `make` lists it. Uses the user's own pip or uv configuration, and sends nothing home.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_MINUTES ?= $(shell $(BIN)/python -m foretune.params demo.minutes)

export DO_NOT_TRACK := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help env demo test test-slow test-all lint audit format tasks bench ui serve stop repro clean

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(VENV)/.ready ## create the environment in .venv from requirements.lock (nothing to do if it is up to date)

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "foretune needs Python 3.11 or newer, but $(PYTHON) is %d.%d; try: make env PYTHON=python3.11" % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(BIN)/python -m ensurepip > /dev/null
	@echo "installing the packages of requirements.lock into $(VENV) (about 5 GB with PyTorch's CUDA libraries)"
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock)" || true
	@if test -x $(BIN)/uv && VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock; then :; else \
		echo "uv could not do it; trying pip, with its own configuration" && \
		$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock; fi
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: env ## tune on photographs, compare with the default and random search, test and use the model (5 minutes)
	$(BIN)/python -m foretune.pipeline.demo --out data/demo
	$(BIN)/foretune tune data/demo/photos --minutes $(DEMO_MINUTES) --compare --final --study demo
	$(BIN)/foretune evaluate data/studies/demo/final.pt data/demo/photos
	$(BIN)/foretune predict data/studies/demo/final.pt data/demo/new

# Three processes for two cores, as many tests wait; a file of tests stays together; those marked slow
# start servers on fixed ports and kill processes, so they run alone.
WORKERS ?= 3

test: env ## run the tests, those marked slow apart (minutes)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

test-slow: env ## run the tests marked slow
	$(BIN)/python -m pytest -m slow

test-all: test test-slow ## run all tests

lint: env ## check style, types, and that the digests of the stages' code are true
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m foretune.pipeline.digests --check

audit: env ## look the packages of requirements.lock up among known vulnerabilities (asks pypi.org)
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r requirements.lock

format: env ## put the code into the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tasks: env ## prepare the embedded image tasks in data/images
	$(BIN)/python -m foretune.pipeline.tasks

bench: env ## run other libraries side by side, each in an environment of its own
	$(BIN)/python bench/run.py

ui: env ## open the MLflow page of all studies
	$(BIN)/mlflow ui --backend-store-uri sqlite:///data/mlflow.db

serve: env ## run as a service: Prefect, MLflow and a worker on this machine (docs/guide/service.md); options in SERVE="..."
	@$(BIN)/python flows/service.py serve $(SERVE)

stop: env ## end what `make serve` started
	@$(BIN)/python flows/service.py stop

repro: env ## reproduce the pipeline: tasks, meta-dataset, evaluation, report
	$(BIN)/python -m foretune.pipeline.digests
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

clean: ## remove the environment and caches (not data)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
