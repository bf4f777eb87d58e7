# Entry points for users and developers; `make` lists them. Every target that needs the environment sets it up first.
SHELL := /bin/bash
PYTHON := .venv/bin/python
# some logins (su, cron) leave out where mkfs, losetup and dpkg's helpers are
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
# make hands ONLY=, N=, TARGET= and the like down in the environment; soak.py, run.py and fresh.sh read them there
.DEFAULT_GOAL := help
.PHONY: help setup demo test soak lint scan bench lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

setup: ## system packages and .venv; instant when there is nothing to do
	@tests/lab/setup.sh

demo: setup ## the five-minute story: volumes created, used, refused, removed
	@$(PYTHON) tests/lab/demo.py

test: setup ## all tests, layer by layer (LAYERS="unit functional", ARGS="-k xfs -x")
	@$(PYTHON) tests/lab/layers.py $(LAYERS) -- $(ARGS)

soak: setup ## the long runs (ONLY=fresh: one of them, N=20: how many rounds)
	@$(PYTHON) tests/lab/soak.py

lint: setup ## ruff and mypy, nothing changed
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

scan: ## checkov and trivy over terraform/, with their exceptions in it
	@tests/lab/scan.sh

bench: setup ## each verb beside the bare commands (ONLY=local: names that begin so)
	@$(PYTHON) tests/benchmarks/run.py

lock: ## requirements.lock anew from the ranges in pyproject.toml
	@tests/lab/lock.sh

clean: ## all that was made, except .state, where volumes are
	@rm -rf --one-file-system .venv build .hypothesis .*_cache
	@find . -name __pycache__ -not -path './.state/*' -prune -exec rm -rf {} +
	@if [ -e .state ]; then echo ".state stays: it may hold volumes"; fi
