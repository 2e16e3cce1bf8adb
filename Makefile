# The only commands anyone has to remember. All needs Python 3.11 or newer with pip, and make.

PY ?= python3
BIN := .venv/bin
UV := $(shell command -v uv || echo .uv/bin/uv)
export PATH := $(CURDIR)/$(BIN):$(PATH)
# A start would compile everything it imports, each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests dev serve work doctor fmt lint types arch test test-all evals check constraints clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.all ## Install everything into .venv

# `--target` needs neither a virtual environment nor permission from a system Python.
.venv/.uv:
	@command -v "$(UV)" >/dev/null || $(PY) -m pip install -q --disable-pip-version-check --root-user-action=ignore --target .uv uv
	@"$(UV)" venv -q --allow-existing --python "$(PY)" .venv
	@touch $@

# What serving needs comes first and alone: the rest is twice as much. Importing it once leaves its
# bytecode behind, so that the first start is as quick as later ones.
.venv/.serve: .venv/.uv pyproject.toml constraints.txt
	@"$(UV)" pip install -q --python .venv -c constraints.txt -e '.[embedded]'
	@$(BIN)/python -c 'import interlock.server.lifetime, langchain.agents'
	@touch $@

.venv/.all: .venv/.serve
	@"$(UV)" pip install -q --python .venv -c constraints.txt -e '.[embedded,dev]'
	@touch $@

dev: .venv/.serve ## Serve the graphs here: API, worker, console, Postgres
	@exec interlock dev

serve: .venv/.serve ## Serve the API only
	@exec interlock serve

work: .venv/.serve ## Execute runs only
	@exec interlock work

doctor: .venv/.serve ## Check database, configuration, graphs, port and clock
	@interlock doctor

fmt: .venv/.all ## Format and mend what can be mended
	@ruff format -q
	@ruff check --fix

lint: .venv/.all ## Lint and check the format
	@ruff format --check
	@ruff check

types: .venv/.all ## Check types
	@basedpyright

arch: .venv/.all ## Check which room imports which
	@lint-imports

# The tests drive Node and Chromium as well; the script fetches what is missing.
setup-tests: .venv/.all
	@tests/install.sh

test: setup-tests ## Run every test
	@pytest -q -n auto --dist loadscope

test-all: lint types arch test evals ## Everything that can fail

evals: .venv/.all ## Measure the graphs against the accepted scores
	@for dataset in evals/datasets/*.yaml; do interlock eval "$$dataset" || exit 1; done

check: test-all ## What has to pass before a change lands

constraints: .venv/.all ## Pin every dependency again
	@"$(UV)" pip compile -q --universal --no-emit-index-url --no-annotate --no-header --upgrade \
		--extra embedded --extra dev pyproject.toml -o constraints.txt

clean: ## Remove what was installed and built; the embedded database stays
	@rm -rf .venv .uv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
