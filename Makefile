# make demo and make test do all the set-up on a bare machine with Python 3.11 or newer: a virtual environment,
# the pinned dependencies, the embedded weights.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO_OUT ?= demo_output

.PHONY: demo test check docs bench crash extras readers clean

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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

# The documentation site, to site/; a link that leads nowhere is an error.
docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks.scan
	$(BIN)/python -m benchmarks.tar_inputs
	$(BIN)/python -m benchmarks.cut
	$(BIN)/python -m benchmarks.shots
	$(BIN)/python -m benchmarks.readers
	$(BIN)/python -m benchmarks.dedup
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.engine --executor ray
	$(BIN)/python -m benchmarks.curate
	$(BIN)/python -m benchmarks.pack
	$(BIN)/python -m benchmarks.train_step
	$(BIN)/python -m benchmarks.unet
	$(BIN)/python -m benchmarks.overfit
	$(BIN)/python -m benchmarks.autoencoders

# Long forms of tests/pipelines/test_crash.py (half an hour) and tests/train/distributed/test_train_kill.py.
crash: $(VENV)/.installed
	$(BIN)/python -m benchmarks.crash --kills 20
	$(BIN)/python -m benchmarks.crash --step encode --kills 9
	$(BIN)/python -m benchmarks.commit_points
	$(BIN)/python -m benchmarks.train_kill
	$(BIN)/python -m benchmarks.train_autoencoder_kill

# What each extra brings, by pip and in a virtual environment of its own: some minutes, and gigabytes for a while.
# `make test` does the same in folders of links to what is installed (tests/support/environments.py).
extras: $(VENV)/.installed
	REELPACK_EXTRAS=fresh $(BIN)/python -m pytest tests/test_extras.py --timeout 1800

# A tool whose own reader reads an export, and that cannot be installed beside reelpack's tests.
readers: $(VENV)/.installed
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(VENV)/readers finetrainers==0.2.0
	REELPACK_READERS=$(VENV)/readers $(BIN)/python -m pytest tests/curate/export/test_finetrainers.py

clean:
	rm -rf $(VENV) $(DEMO_OUT) build site *.egg-info
