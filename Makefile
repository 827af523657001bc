# `make demo`: watch a small model learn by GRPO, on a laptop.  `make test`: check everything.  `make check`: what takes a minute or two.
# `make test-vllm`: the same with a real vLLM, on the CPU (Linux).
# All build .venv first, once, and again when setup.cfg or constraints.txt change.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

VLLM := .venv-vllm

.PHONY: demo test test-vllm check lint setup setup-vllm

demo: $(VENV)/.built
	@$(RUN) -m recipes.demo

# Files of tests two at a time, with one thread each: two torch processes that each take every core slow each other tenfold.
test: $(VENV)/.built
	@echo "== tests: 15 to 20 minutes on 2 cores, by real training runs"
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-vllm: $(VLLM)/.built
	@OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest -q tests/test_vllm.py

# Neither trains a model, nor starts Python, nor runs programs
check: lint
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal -q -m "not trains and not launches and not sandbox"

lint: $(VENV)/.built
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

setup: $(VENV)/.built

setup-vllm: $(VLLM)/.built

$(VENV)/.built: setup.cfg constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	@echo "== building $(VENV) with $$($(PYTHON) --version): once, some minutes and some GB of downloads"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --progress-bar off --editable '.[dev]' --constraint constraints.txt
	@touch $@

# of vLLM's version in setup.cfg
$(VLLM)/.built: $(VENV)/.built tests/vllm_environment.sh
	@echo "== building $(VLLM), with vLLM's CPU build: once"
	@bash tests/vllm_environment.sh $(VENV) $(VLLM) "$$(sed -n 's/^ *vllm==//p' setup.cfg)"
	@touch $@
