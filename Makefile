# `make demo` and `make test` work from a bare checkout: .venv is made and filled on the way.

PYTHON ?= python3
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test slow long zoo check clean distclean

help:
	@echo 'make demo       pre-train, shift, fine-tune: the whole story on handwritten digits'
	@echo 'make test       the tests that take minutes'
	@echo 'make slow       the full-size ones that .ci/run runs'
	@echo 'make long       a million executions of each fuzzer, ten kills of a search'
	@echo 'make zoo        a step of every model of the zoo at full size; long'
	@echo 'make check      ruff, mypy, import-linter'
	@echo 'make clean      remove what was built; make distclean: .venv too'

demo: $(INSTALLED)
	$(BIN)/python -m examples.handwriting

# A file's tests share what they compile, so a file stays on one worker.
test: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile

slow: $(INSTALLED)
	$(BIN)/python -m pytest -q -m slow

long: $(INSTALLED)
	$(BIN)/python -m pytest -q -m long

zoo: $(INSTALLED)
	$(BIN)/python -m pytest -q -m zoo --log-cli-level=info

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# pip's own configuration decides where torch comes from; a CPU build is taken where one is at hand.
$(INSTALLED): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.12")'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { echo 'then: apt install python3-venv' >&2; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_FLAGS) -e '.[dev]'
	@touch $@

clean:
	rm -rf build dist demo-out artifacts .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) pock_tvm.egg-info
