# Everything a developer or CI runs. Needs make and Python 3.11 or newer; the rest goes into .venv.

PYTHON ?= python3
ARGS ?=

venv := .venv
bin := $(venv)/bin
ready := $(venv)/.ready

# What the caller has configured for an Airflow of their own must not reach this one, nor the other way round.
unexport $(filter AIRFLOW_% _AIRFLOW_%,$(.VARIABLES))
export AIRFLOW_HOME := $(CURDIR)/.airflow

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test matrix form warehouses lakes docs lint types imports emulator bench waiting first-hour constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(ready) ## Make .venv with the package, its test tools and its linters

demo: $(ready) ## Export from the emulator with a real Airflow
	$(bin)/python dev/demo.py $(ARGS)

test: $(ready) ## Run every test; ARGS goes to pytest
	$(bin)/python -m pytest $(ARGS)

matrix: $(ready) ## Test the wheel on every Airflow; ARGS: versions, --ends, --write
	$(bin)/python dev/matrix.py $(ARGS)

form: matrix ## See the connection form in a browser, and take the pictures in docs/images
	$(bin)/uv pip install --quiet --python $(bin)/python --constraints constraints.txt --group form
	for version in 2.11.2 3.3.2; do $(bin)/python dev/form.py .matrix/$$version/venv || exit; done

warehouses: $(ready) ## Hold further engines to the tests: MariaDB (needs its server; MYSQL_SOCKET=... takes a MySQL), ClickHouse, Snowflake, ...
	$(bin)/uv pip install --quiet --python $(bin)/python --constraints constraints.txt --group mysql --group clickhouse
	ENGINES="mariadb mariadb-load-data clickhouse" $(bin)/python -m pytest tests/contract/sql $(ARGS)
	$(bin)/uv venv --quiet --allow-existing --python $(bin)/python .warehouses/snowflake
	$(bin)/uv pip install --quiet --python .warehouses/snowflake/bin/python --group snowflake
	ENGINES=snowflake PYTHONPATH=. .warehouses/snowflake/bin/python -m pytest tests/contract/sql \
	    -p no:cacheprovider -k 'not at_once and not odd_names and not try_before' $(ARGS) # the emulator takes none
	$(MAKE) lakes some="$(telling)"

# What differs from engine to engine; the rest is minutes on the emulators.
telling := lakes or first_load or second_load or has_changed or no_more or older_reading or leaves_exactly \
    or at_once or lack_is_added or invalid_values or ids_are or no_staging or times_are or killed_at or cut_off
some ?= test

lakes: $(ready) ## Hold BigQuery and Databricks to all tests, on what stands in for them
	$(bin)/uv venv --quiet --allow-existing --python $(bin)/python .warehouses/lakes
	$(bin)/uv pip install --quiet --python .warehouses/lakes/bin/python --editable . --group lakes
	ENGINES=bigquery PYTHONPATH=. .warehouses/lakes/bin/python -m pytest tests/contract/sql \
	    -p no:cacheprovider -p no:bqemulator -k 'not odd_names and ($(some))' $(ARGS) # BigQuery takes none
	ENGINES=databricks PYTHONPATH=. .warehouses/lakes/bin/python -m pytest tests/contract/sql \
	    --ignore tests/contract/sql/test_lakes.py -p no:cacheprovider -p no:bqemulator $(ARGS) \
	    -k 'not at_once and not odd_names and not a_column_that and not without_leave and ($(some))' # Sail alters no table

docs: $(ready) ## Build the site into docs/_build
	$(bin)/uv pip install --quiet --python $(bin)/python --constraints constraints.txt --group docs
	$(bin)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build

lint: $(ready) ## Check style and formatting
	$(bin)/ruff check .
	$(bin)/ruff format --check .

types: $(ready) ## Check types, also of the public API as its users see it
	$(bin)/mypy
	$(bin)/pyright --pythonpath $(bin)/python

imports: $(ready) ## Check that imports go down only
	$(bin)/lint-imports

emulator: $(ready) ## Serve the VoiceOS API on this machine; ARGS goes to the emulator
	$(bin)/python -m voiceos_provider.emulator $(ARGS)

bench: $(ready) ## Measure exports, and write docs/bench.md; ARGS goes to the bench
	$(bin)/uv pip install --quiet --python $(bin)/python --constraints constraints.txt --group bench
	$(bin)/python dev/bench $(ARGS)

waiting: $(ready) ## Measure a thousand deferred sensors under a real triggerer; ARGS goes to the script
	$(bin)/python dev/waiting $(ARGS)

first-hour: $(ready) ## Go through a first hour on the oldest and the newest Airflow, and write docs/first-hour.md
	rm -rf .matrix/dist
	$(bin)/python -m hatchling build --target wheel --directory .matrix/dist
	$(bin)/python dev/first_hour .matrix/dist/*.whl $(ARGS) --write

constraints: $(bin)/uv ## Write constraints.txt anew, with the newest of everything
	$(bin)/uv pip compile --quiet --universal --upgrade --no-annotate \
	    --custom-compile-command 'make constraints' \
	    pyproject.toml --extra s3 --extra postgres --extra duckdb --group test --group lint --output-file constraints.txt

clean: ## Remove everything that make and the tools wrote
	rm -rf $(venv) .airflow .bench .demo .matrix .warehouses docs/_build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(ready): $(bin)/uv pyproject.toml constraints.txt
	$(bin)/uv pip install --quiet --python $(bin)/python --compile-bytecode \
	    --constraints constraints.txt --build-constraints constraints.txt \
	    --editable '.[s3,postgres,duckdb]' --group test --group lint
	@touch $@

$(bin)/uv:
	$(if $(shell $(PYTHON) -c 'import sys; print("new enough" if sys.version_info >= (3, 11) else "")' 2>/dev/null),,\
	    $(error $(PYTHON) is not Python 3.11 or newer; name one that is, for example: make PYTHON=python3.12))
	$(PYTHON) -m venv $(venv)
	$(bin)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
