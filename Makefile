# Every target makes its own virtual environment when there is none.
#   make demo    an emulated cluster and the proxy; prints the psql line
#   make test    format, lint, types, contracts, tests with coverage
#   make docs    docs/errors.md, of what the code says
#   make bench   the benchmark; writes docs/performance.md
#   make soak    long runs: deep property tests, then a load with swaps and faults
#                (MINUTES=10)
#   make clean   remove what the others made

# The first Python that is new enough; name another with: make PYTHON=/path test
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  && { echo "$$python"; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
MINUTES ?= 10
LISTEN ?= 127.0.0.1:5432
# Processes that share the files of the tests: most tests wait more than they work
WORKERS ?= 2

.PHONY: demo test docs bench soak clean

demo: $(VENV)/.for-demo
	@exec $(BIN)/dsqlproxy demo --listen $(LISTEN)

test: $(VENV)/.for-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/hadolint Dockerfile
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist loadfile
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

docs: $(VENV)/.for-demo
	$(BIN)/python -m dsqlproxy.session.errors_page docs/errors.md

bench: $(VENV)/.for-test
	$(BIN)/python -m bench

soak: $(VENV)/.for-test
	HYPOTHESIS_PROFILE=deep $(BIN)/python -m pytest --timeout 600 -k "property or test_cuts"
	$(BIN)/python -m bench.soak --minutes $(MINUTES)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	@echo "Installing into $(VENV); this takes about 20 seconds."
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'

$(VENV)/.for-demo: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[emulator,tls]'
	@touch $@

$(VENV)/.for-test: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[emulator,tls]' --group dev
	@touch $@ $(VENV)/.for-demo
