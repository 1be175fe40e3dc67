# make demo    a detector trained on synthetic shapes, its AP, pictures
# make test    lint and the test suite
# make setup   only the environment; the others make it first, once
#
# PYTHON=...                  interpreter, 3.10 to 3.13
# STACK=openmmlab|onedl       packages that provide mmdet
# VENV=...                    folder of the environment

VENV ?= .venv
STACK ?=
IN_RANGE := import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c '$(IN_RANGE)' 2>/dev/null && echo $$python && exit; done; echo python3)
endif

.PHONY: help setup demo test lint

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

setup:
	@$(PYTHON) -c '$(IN_RANGE)' 2>/dev/null || { echo "set-up: $(PYTHON) is no Python" \
		"3.10 to 3.13; name one (make PYTHON=/path/to/python3)"; exit 1; }
	@$(PYTHON) tools/setup_env.py --venv $(VENV) $(if $(STACK),--stack $(STACK))

demo: setup
	@$(VENV)/bin/python tools/demo.py

lint: setup
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

test: lint
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal
