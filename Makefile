# Needs Python 3.10 or later and the base tools of a Unix system; everything else goes into virtual
# environments in this directory, which are brought up to date when pyproject.toml changes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SQLALCHEMY_FLOOR := $(shell sed -n 's/^ *"SQLAlchemy>=\([0-9.]*\)",$$/\1/p' pyproject.toml)

# What depends on SQLAlchemy's behaviour; the rest is tested once, on the newest version.
SQLALCHEMY_TESTS := tests/capture tests/ledger tests/robustness tests/exporters/opentelemetry tests/instrumentation

.PHONY: help demo test test-sqlalchemy print-sqlalchemy-floor system-packages lint format generate check-generated bench

help:
	@echo "make demo             see a pool fill, queue and time out (Ctrl-C ends it)"
	@echo "make test             format check, linter, type checker and tests"
	@echo "make lint             format check, linter and type checker"
	@echo "make format           format, and fix what the linter can"
	@echo "make generate         write tables, rules, dashboards and pictures anew; check-generated compares"
	@echo "make bench            print what the library costs, as ratios"
	@echo "make test-sqlalchemy SQLALCHEMY=2.0.58    the tests on another SQLAlchemy"

demo: $(VENV)/.demo
	$(BIN)/pool-exporter demo

test: lint system-packages
	$(BIN)/python -m pytest -n 4

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: $(VENV)/.dev
	$(BIN)/python -m tools.generate

check-generated: $(VENV)/.dev
	$(BIN)/python -m tools.generate --check

bench: $(VENV)/.dev
	@set -e; for program in benchmarks/[!_]*.py; do echo "== $$program"; $(BIN)/python "$$program"; done

test-sqlalchemy: system-packages
	@test -n "$(SQLALCHEMY)" || { echo "say which version: make test-sqlalchemy SQLALCHEMY=2.0.58" >&2; exit 2; }
	$(MAKE) VENV=.venv-sa-$(SQLALCHEMY) PIN='SQLAlchemy==$(SQLALCHEMY)' .venv-sa-$(SQLALCHEMY)/.dev
	.venv-sa-$(SQLALCHEMY)/bin/python -m pytest -n 4 $(SQLALCHEMY_TESTS)

print-sqlalchemy-floor:
	@echo "$(SQLALCHEMY_FLOOR)"

# The real servers that some tests start; each such test is skipped where they are missing, unless
# the environment variable CI is set.
system-packages:
	@scripts/debian-packages prometheus=prometheus prometheus-alertmanager=prometheus-alertmanager \
		prometheus-postgres-exporter=prometheus-postgres-exporter pgbouncer=pgbouncer \
		vmalert=victoria-metrics mariadbd=mariadb-server chromium=chromium node=nodejs npm=npm

$(VENV)/.demo: pyproject.toml
	$(call install,.[demo])
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(call install,.[dev])
	@touch $(VENV)/.demo $@

define install
@$(PYTHON) -c 'import ensurepip' 2>/dev/null || scripts/debian-packages ensurepip=python3-venv
$(PYTHON) -m venv $(VENV)
$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --editable '$(1)' $(PIN)
endef
