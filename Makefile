# make run: the terminal. make quick: lint and the fast tests (no whole screens: tests/tui/test_tui_*). make test: lint
# and all tests. Each sets up what it needs in .venv. PYTEST_ARGS are further options of pytest for quick and test.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3.14 python3,$(if $(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null | grep True),$(p))))
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test quick lint format bench soak screenshot drift wheel-smoke clean

run: $(READY)
	@$(BIN)/deltatui

test: $(READY_DEV) lint drift
	@$(BIN)/python tests/run_suite.py --hypothesis-profile=ci $(PYTEST_ARGS)

quick: $(READY_DEV) lint
	@$(BIN)/python -m pytest -n auto --dist worksteal -m 'not slow and not serial and not soak' --ignore-glob='*/test_tui_*' $(PYTEST_ARGS)

lint: $(READY_DEV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY_DEV)
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

bench: $(READY_DEV)
	@$(BIN)/python -m bench

soak: $(READY_DEV)
	@$(BIN)/python -m pytest -m soak -s

screenshot: $(READY)
	@$(BIN)/python tools/screenshot.py

# The official Python SDK pins old versions of almost everything, so it gets an environment of its own.
drift: $(READY_DEV)
	@$(BIN)/python tests/drift_oracle.py

# The package as a user gets it.
wheel-smoke: $(READY_DEV)
	@$(BIN)/python tests/wheel_smoke.py

clean:
	rm -rf $(VENV) .venv-drift

$(VENV):
	@test -n "$(PYTHON)" || { echo "deltatui needs Python 3.11 or newer; none was found" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(READY): pyproject.toml constraints.txt | $(VENV)
	@echo "setting up $(VENV) ..."
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(READY_DEV): pyproject.toml constraints.txt | $(VENV)
	@echo "setting up $(VENV) with the tools for tests ..."
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ $(READY)
