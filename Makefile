.PHONY: test
VENV ?= .venv

$(VENV)/.stamp-test: pyproject.toml
	python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -e '.[test]'
	touch $@

test: $(VENV)/.stamp-test
	$(VENV)/bin/pytest -n 2
