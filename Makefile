# Development tasks; CI runs the same targets. Requires make and Python 3.11 or newer. The rest is installed into .venv.

PYTHON ?= python3
ARGS ?=
# One more than cores, since tests wait for disks, servers and clocks.
WORKERS ?= $(shell expr 1 + $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))

venv := .venv
bin := $(venv)/bin
ready := $(venv)/.ready
# What .venv holds besides the package.
extras := s3 postgres duckdb iceberg delta polars
groups := test lake-readers lint
in_parallel := --numprocesses $(WORKERS) --dist loadgroup
pytest := $(bin)/python -m pytest $(in_parallel)

# Keep the caller's own Airflow and this one apart.
unexport $(filter AIRFLOW_% _AIRFLOW_%,$(.VARIABLES))
export AIRFLOW_HOME := $(CURDIR)/.airflow

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup check test test-slow ci lint types imports demo matrix form coverage-page warehouses lakes dbt \
    fleet docs emulator bench waiting first-hour constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(ready) ## Create .venv with the package, its test tools and its linters

check: lint types imports ## Before each commit: style, types, imports and unit tests; about two minutes on two cores
	$(pytest) -m 'not slow' tests/unit $(ARGS)

test: $(ready) ## All tests but the slow ones, in parallel; about five minutes on two cores. ARGS goes to pytest
	$(pytest) -m 'not slow' $(ARGS)

test-slow: $(ready) ## The slow tests: code blocks of the docs, property, chaos, packaging, killed tasks and loads, memory, triggerer
	$(pytest) -m slow $(ARGS)

ci: ## Everything that CI runs, with a report at the end
	.ci/run

lint: $(ready) ## Check style and formatting
	$(bin)/ruff check .
	$(bin)/ruff format --check .

types: $(ready) ## Check types: the package with mypy, its public API with pyright
	$(bin)/mypy
	$(bin)/pyright --pythonpath $(bin)/python

imports: $(ready) ## Check that modules import only from the layers below
	$(bin)/lint-imports

demo: $(ready) ## Export from the emulator with a real Airflow, and show the result
	$(bin)/python -m scripts.demo $(ARGS)

matrix: $(ready) ## Test the wheel on each Airflow and installed Python. ARGS: versions, --python, --ends, --write
	$(bin)/python -m scripts.matrix $(ARGS)

form: $(ready) ## Try the connection form in a browser, and update its pictures; needs Chromium
	$(bin)/python -m scripts.matrix --ends
	$(bin)/uv pip install --quiet --python $(bin)/python --constraints constraints.txt --group form
	for venv in .matrix/2.11.2-*/venv .matrix/3.3.2-*/venv; do $(bin)/python -m docs.tools.form $$venv || exit; done

coverage-page: $(ready) ## Try the coverage page in a browser, and update its pictures; needs Chromium
	$(bin)/python -m scripts.matrix 3.1.8 3.3.2 --python 3.11
	$(bin)/uv pip install --quiet --python $(bin)/python --constraints constraints.txt --group form
	$(bin)/python -m docs.tools.coverage .matrix/3.1.8-py3.11/venv
	$(bin)/python -m docs.tools.coverage .matrix/3.3.2-py3.11/venv --base-path /airflow

# MariaDB is the one engine that pip does not install. MYSQL_SOCKET names the socket of a running MySQL or MariaDB.
mysql := $(or $(MYSQL_SOCKET),$(shell PATH="$$PATH:/usr/sbin" command -v mariadbd))

warehouses: $(ready) ## Run the database tests on all engines and drivers that make test leaves out, or what emulates them
	ENGINES="postgres-psycopg postgres-psycopg2 redshift generic" $(pytest) tests/contract/sql $(ARGS)
ifeq ($(mysql),)
	@echo 'SKIPPED: MariaDB is not installed.'
	@$(if $(filter mariadb,$(REQUIRED_ENGINES)),echo 'REQUIRED_ENGINES requires it.'; exit 1)
else
	$(bin)/uv pip install --quiet --python $(bin)/python --constraints constraints.txt --group mysql
	ENGINES="mariadb mariadb-load-data" $(pytest) tests/contract/sql $(ARGS)
endif
	$(bin)/uv pip install --quiet --python $(bin)/python --constraints constraints.txt --group clickhouse
	ENGINES=clickhouse $(pytest) tests/contract/sql $(ARGS)
	$(bin)/uv venv --quiet --allow-existing --python $(bin)/python .warehouses/snowflake
	$(bin)/uv pip install --quiet --python .warehouses/snowflake/bin/python --group snowflake
	ENGINES=snowflake PYTHONPATH=. .warehouses/snowflake/bin/python -m pytest $(in_parallel) tests/contract/sql \
	    -p no:cacheprovider -k 'not at_once and not odd_names and not earlier_attempt' $(ARGS) # the emulator supports none
	$(MAKE) lakes some="$(engine_specific)"

# Tests of what differs between engines; the others would take minutes on these emulators.
engine_specific := lakes or first_load or second_load or has_changed or removed_messages or older_reading \
    or leaves_exactly or at_once or missing_column or invalid_values or ids_are or no_staging or times_are \
    or killed_at or cut_off or exports_of or added_later or until_they_end or erased_conversation_is_not
some ?= test

# Sail cannot alter tables.
on_sail := not at_once and not odd_names and not missing_column and not user_defined_column \
    and not without_permission

lakes: $(ready) ## Run all database tests on BigQuery and Databricks, or what emulates them
	$(bin)/uv venv --quiet --allow-existing --python $(bin)/python .warehouses/lakes
	$(bin)/uv pip install --quiet --python .warehouses/lakes/bin/python --editable . --group lakes
	ENGINES=bigquery PYTHONPATH=. .warehouses/lakes/bin/python -m pytest tests/contract/sql \
	    -p no:cacheprovider -p no:bqemulator -k 'not odd_names and ($(some))' $(ARGS) # BigQuery supports none
	ENGINES=databricks PYTHONPATH=. .warehouses/lakes/bin/python -m pytest tests/contract/sql \
	    --ignore tests/contract/sql/test_lakes.py -p no:cacheprovider -p no:bqemulator $(ARGS) \
	    -k '$(on_sail) and ($(some))'

dbt: $(ready) ## Build the dbt package on exports to DuckDB, PostgreSQL and files, and test the data contract on them
	$(bin)/uv venv --quiet --allow-existing --python $(bin)/python .warehouses/dbt
	$(bin)/uv pip install --quiet --python .warehouses/dbt/bin/python --group dbt
	DBT_ENVIRONMENT=$(CURDIR)/.warehouses/dbt $(pytest) tests/integration/test_dbt.py $(ARGS)

fleet: $(ready) ## Run a backfill over two Celery workers, and kill one; needs Redis
ifeq ($(shell command -v redis-server),)
	@echo 'SKIPPED: Redis is not installed.'
else
	$(bin)/uv pip install --quiet --python $(bin)/python --constraints constraints.txt --group celery
	$(bin)/python -m pytest tests/integration/test_celery.py $(ARGS)
endif

docs: $(ready) ## Build the documentation site into docs/_build
	$(bin)/uv pip install --quiet --python $(bin)/python --constraints constraints.txt --group docs
	$(bin)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build

emulator: $(ready) ## Serve the emulated VoiceOS API on this machine. ARGS goes to the emulator
	$(bin)/python -m voiceos_provider.emulator $(ARGS)

bench: $(ready) ## Measure exports, and write docs/bench.md. ARGS goes to the benchmark
	$(bin)/uv pip install --quiet --python $(bin)/python --constraints constraints.txt --group bench
	$(bin)/python -m benchmarks.export $(ARGS)

waiting: $(ready) ## Measure a thousand deferred sensors under a real triggerer. ARGS goes to the benchmark
	$(bin)/python -m benchmarks.waiting $(ARGS)

first-hour: $(ready) ## Measure a first hour on the oldest and the newest Airflow, and write docs/first-hour.md
	rm -rf .matrix/dist
	$(bin)/python -m hatchling build --target wheel --directory .matrix/dist
	$(bin)/python -m docs.tools.first_hour .matrix/dist/*.whl $(ARGS) --write

constraints: $(bin)/uv ## Update constraints.txt to the newest versions
	$(bin)/uv pip compile --quiet --universal --upgrade --no-annotate --no-emit-index-url \
	    --custom-compile-command 'make constraints' \
	    pyproject.toml $(addprefix --extra ,$(extras)) $(addprefix --group ,$(groups)) --output-file constraints.txt

clean: ## Remove everything that make and the tools created
	rm -rf $(venv) .airflow .bench .demo .matrix .warehouses docs/_build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(ready): $(bin)/uv pyproject.toml constraints.txt
	@echo 'Installing the package, its test tools and its linters into $(venv); this takes a minute or two ...'
	$(bin)/uv pip install --python $(bin)/python --compile-bytecode \
	    --constraints constraints.txt --build-constraints constraints.txt \
	    $(addprefix --extra ,$(extras)) --requirements pyproject.toml --editable . $(addprefix --group ,$(groups))
	@touch $@

$(bin)/uv:
	$(if $(shell $(PYTHON) -c 'import sys; print("new enough" if sys.version_info >= (3, 11) else "")' 2>/dev/null),,\
	    $(error $(PYTHON) is not Python 3.11 or newer; name one that is, for example: make PYTHON=python3.12))
	@echo "Creating $(venv) with $$($(PYTHON) --version) ..."
	$(PYTHON) -m venv $(venv)
	$(bin)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
