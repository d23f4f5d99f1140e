# Everything a user types. Nothing is needed but Python 3.11 or newer (with venv) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help book test lab lint bench clean

help:  ## Show what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the pinned packages into $(VENV) (6 GB with CUDA, 2.4 GB without: README; once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

book: $(INSTALLED)  ## Get the published tables if possible, run the notebooks that changed, build the book
	@$(BIN)/iav data fetch imapp --attempts 1 --timeout 4 --optional
	@$(BIN)/iav book

TESTS ?= quick

test: $(INSTALLED)  ## Run the tests that are quick; with TESTS=all also those that take long
	@echo "$(if $(filter all,$(TESTS)),all tests: 16 or more,the quick tests: 7 or more) minutes of processor time, shared among the cores"
	@$(BIN)/python -m pytest -n auto --dist loadfile $(if $(filter all,$(TESTS)),,-m "not thorough") $(PYTEST_ARGS)

# git then leaves out what JupyterLab writes into a notebook beside its cells, so that a saved
# notebook differs only where it was edited (.gitattributes names the filter)
lab: $(INSTALLED)  ## Open the notebooks in JupyterLab
	@git config --local filter.notebooks.clean "'$(CURDIR)/$(BIN)/nbstripout' --keep-id \
		--extra-keys metadata.language_info" 2>/dev/null || true
	@$(BIN)/jupyter lab notebooks

lint: $(INSTALLED)  ## Check the style and layers of the code and that notebooks hold no output; report its size
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python tools/size.py
	@$(BIN)/nbstripout --verify --keep-id --extra-keys metadata.language_info notebooks/*.ipynb

bench: $(INSTALLED)  ## Run the benchmarks
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

clean:  ## Remove what can be made again; data, runs and the environment stay
	rm -rf _build book/executed .pytest_cache .ruff_cache .import_linter_cache .hypothesis
