# make demo and make test do all the set-up on a bare machine with Python 3.11 or newer: a virtual environment,
# the pinned dependencies, the embedded weights.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO_OUT ?= demo_output

.PHONY: demo test check bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(f"reelpack needs Python 3.11 or newer, got {sys.version.split()[0]}" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch torchvision
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/reelpack weights
	$(BIN)/reelpack demo --out $(DEMO_OUT)

test: $(VENV)/.installed
	$(BIN)/reelpack weights
	$(BIN)/python -m pytest

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.scan
	$(BIN)/python -m benchmarks.sample
	$(BIN)/python -m benchmarks.pack

clean:
	rm -rf $(VENV) $(DEMO_OUT) build *.egg-info
