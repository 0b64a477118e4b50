# make demo: text through the generated hardware, then a recorded trace under three policies.
# make test: lint and all tests but those that need torch. make test-record: those.
# make formal: proofs of the hardware at full depth, and of broken designs that they see it.
# Each sets up .venv on its own.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
DEMO_ARGS ?=
FORMAL_ARGS ?= --faults

.PHONY: demo test test-record formal lint check-tools clean
.DELETE_ON_ERROR:

demo: $(VENV)/.stamp-run
	$(BIN)/stmoe chat --tokens 48
	$(BIN)/stmoe simulate $(DEMO_ARGS)

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

test-record: $(VENV)/.stamp-record
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS) tests/record

formal: $(VENV)/.stamp-formal
	$(BIN)/python scripts/formal $(FORMAL_ARGS)

lint: $(VENV)/.stamp-test
	PATH="$(abspath $(BIN)):$$PATH" scripts/lint

$(VENV)/.stamp-run: pyproject.toml | check-tools
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e .
	touch $@

$(VENV)/.stamp-test: pyproject.toml | check-tools
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e '.[test]'
	touch $@ $(VENV)/.stamp-run

$(VENV)/.stamp-record: pyproject.toml $(VENV)/.stamp-test
	$(BIN)/python -m pip install -q -e '.[test,record]'
	touch $@

$(VENV)/.stamp-formal: pyproject.toml | check-tools
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e '.[formal]'
	touch $@

check-tools:
	@PYTHON="$(PYTHON)" scripts/check-tools

clean:
	rm -rf build
