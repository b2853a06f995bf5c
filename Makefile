# Two commands matter: `make run` and `make test`; both set up what is missing first.
SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup run test nightly lint clean

VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# A shell that has another environment active must not lead ours astray.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH
# Every command and test process would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE
# Tests start one worker a core, so the libraries inside must not start more.
export OMP_NUM_THREADS ?= 1

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: $(READY) ## make .venv and install the pinned set (PYTHON=... chooses the interpreter)

run: $(READY) ## the main job: ten nodes on real data, results under outputs/ (or FEDPROFILE_HOME)
	@$(BIN)/fedprofile train data=nhanes

test: lint ## lint, then all tests
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder # on two cores: a test often waits

nightly: $(READY) ## 10,000 schedules of the malicious coordinator, a kill at every question, every fault of a deployment by real kills
	@$(BIN)/python -m pytest -m nightly --durations=0
	@FEDPROFILE_SCHEDULES=nightly $(BIN)/python -m pytest -n 2 --dist worksteal --durations=4 tests/secagg/test_adversary.py -k no_schedule
	@FEDPROFILE_SCHEDULES=nightly $(BIN)/python -m pytest -m nightly tests/coordinator/test_opening.py -k dies_at_any_question

lint: $(READY) ## ruff, mypy, import-linter
	@$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy --no-error-summary
	broken=$$($(BIN)/lint-imports 2>&1) || { echo "$$broken"; exit 1; }

clean: ## remove the environment and caches, never results
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# `.installed` is removed first and set last: a set-up that was cut short starts from a clean environment,
# one whose pins have changed, or whose machine was mended, only brings the packages up to date.
$(READY): setup.cfg pyproject.toml constraints.txt
	@if [ -f $(VENV)/.installed ] && $(BIN)/python -c '' 2>/dev/null; then
	    rm -f $(VENV)/.installed
	else
	    python=$$($(find_python))
	    echo "setting up $(VENV) with $$python ($$($$python -V 2>&1)); this takes some minutes"
	    $$python -m venv --clear $(VENV)
	fi
	$(PIP) install -c constraints.txt $${FEDPROFILE_TORCH_INDEX:+--extra-index-url "$$FEDPROFILE_TORCH_INDEX"} torch
	$(PIP) install -c constraints.txt -e '.[data,dev]'
	touch $(VENV)/.installed
	$(BIN)/fedprofile doctor > $(VENV)/doctor.log || { cat $(VENV)/doctor.log >&2; exit 1; }
	touch $(READY)

# Prints the first interpreter that fits, or says on stderr how to get one.
CANDIDATES := $(or $(PYTHON),python3 python3.11 python3.12 python3.13 python)
define find_python
lacking=
for python in $(CANDIDATES); do
    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case $$version in 3.11|3.12|3.13) ;; *) continue ;; esac
    $$python -c 'import venv, ensurepip' 2>/dev/null && echo $$python && exit 0
    lacking="$$lacking python$$version-venv"
done
if [ -n "$$lacking" ]; then
    echo "error: Python is there but lacks its venv module. On Debian or Ubuntu: apt-get install$$lacking" >&2
else
    echo "error: no Python 3.11, 3.12 or 3.13 among: $(CANDIDATES)." >&2
    echo "On Debian or Ubuntu: apt-get install python3.12 python3.12-venv (or 3.11, 3.13: what it offers);" >&2
    echo "or name one: make setup PYTHON=/path/to/python3.12" >&2
fi
exit 1
endef
