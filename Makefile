# What people and CI run: `make` lists the targets, `make check` is everything a change has to pass.
# Kept to GNU make 3.81 and POSIX sh, because macOS has nothing newer.

PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help check fix test docs site generate bench soak demo versions format lint types imports bare clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' Makefile

# The stamp is touched last, so a half-made environment is made again.
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@

# Cheapest first: a misplaced blank line should not cost a test run.
check: format lint types imports test bare ## everything a change has to pass

fix: $(VENV)/.ready ## repair formatting, and what lint can repair
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# Without coverage, because measuring takes nearly as long again: CI measures, by PYTEST_ADDOPTS=--cov.
test: $(VENV)/.ready ## the tests, those of the documentation and its site included
	$(BIN)/python -m pytest

docs: site ## the documentation site, and the code blocks and examples of its pages
	$(BIN)/python -m pytest tests/docs -q -n0

# All anew (-E): Sphinx warns of a page only when it reads it, so a second build would be green.
site: $(VENV)/.ready ## the documentation site, in build/site; a warning is an error
	rm -rf build/site
	$(BIN)/sphinx-build -q -E -W --keep-going -d build/doctrees docs build/site

generate: $(VENV)/.ready ## write the generated pages and the README's picture anew
	$(BIN)/python docs/generate.py

bench: $(VENV)/.ready ## the benchmarks, against the simulator, and a page that shows them
	$(BIN)/python benchmarks/run_benchmarks.py --report

soak: $(VENV)/.ready ## 100,000 turns on a bad day; takes minutes
	$(BIN)/python benchmarks/run_benchmarks.py --scenario soak --iterations 100

demo: $(VENV)/.ready ## a workflow, offline, without an API key
	$(BIN)/claude-force run-workflow code-quality-check --input code=@claude_force/cli.py --offline

versions: $(VENV)/.ready ## the tests on every other Python that is installed
	.ci/versions

format: $(VENV)/.ready ## is all code formatted?
	$(BIN)/ruff format --check

lint: $(VENV)/.ready ## ruff's rules
	$(BIN)/ruff check

types: $(VENV)/.ready ## mypy, strict
	$(BIN)/mypy

imports: $(VENV)/.ready ## do imports only point down?
	$(BIN)/lint-imports

# The wheel in an environment without extras or dev tools, in a home folder with nothing in it, outside the source tree:
# an import that only works here, or a file that the wheel forgot, shows at once.
bare: $(VENV)/.ready ## does the wheel work by itself?
	rm -rf build/wheel build/bare
	$(BIN)/python -m pip wheel -q . --no-deps -w build/wheel
	$(BIN)/python -m venv --without-pip build/bare
	$(BIN)/python -m pip --python build/bare install -q --no-compile build/wheel/*.whl
	set -e; bin='$(CURDIR)/build/bare/bin'; home=$$(mktemp -d); trap 'rm -rf "$$home"' EXIT; cd "$$home"; \
	  unset PYTHONPATH; export HOME="$$home"; \
	  "$$bin/python" -c 'import claude_force'; \
	  "$$bin/claude-force" --version; \
	  "$$bin/claude-force" --help >help.txt; \
	  "$$bin/claude-force" init </dev/null; \
	  "$$bin/claude-force" agents list >agents.txt; \
	  "$$bin/python" -c 'import claude_force.apps.dashboard as d; open(d.__path__[0] + "/page/vendor/SHA256SUMS")' \
	    || { echo "bare: the page of serve is not in the wheel" >&2; exit 1; }; \
	  grep python-expert agents.txt || { echo "bare: init left no python-expert: is it in the wheel?" >&2; exit 1; }

clean: ## remove all that these targets made
	rm -rf .venv .venv-3.* build dist .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
