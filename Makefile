# Two commands do everything on a fresh machine: `make demo` and `make test`. Each target makes what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all lint format bench fuzz docs clean

demo: $(STAMP)
	$(BIN)/dualpix demo -o demo_out

# one process a core, each with one thread of torch and OpenCV; a file's tests stay together
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --maxprocesses 8 --dist loadfile

test-all: $(STAMP)
	HYPOTHESIS_PROFILE=explore $(BIN)/pytest -m "slow or not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.run --count 20000 --jobs 2
	$(BIN)/python -m tests.fuzz.readers --count 3000 --jobs 2

docs: $(STAMP)
	$(BIN)/python -m docs.make_images
	$(BIN)/python -m docs.make_tables
	$(BIN)/python -m docs.make_protocols
	$(BIN)/python -m docs.make_architecture
	$(BIN)/python -m docs.peers --page

clean:
	rm -rf $(VENV) dist build demo_out .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
