# make demo and make test do all the set-up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: demo test lint types docs baselines aot clean

$(RUN):
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v < (3, 14) and f"Python 3.11 to 3.13 is needed, {sys.executable} is {v.major}.{v.minor}; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q --upgrade pip

# One environment; a stamp tells which extra it holds.
$(VENV)/.installed: EXTRA = test
$(VENV)/.demo: EXTRA = experiments
$(VENV)/.installed $(VENV)/.demo: setup.py | $(RUN)
	@echo 'Installing the packages of the extra $(EXTRA), over 1 GB, into $(VENV): minutes'
	$(RUN) -m pip install -q -e '.[$(EXTRA)]'
	touch $@

demo: $(VENV)/.demo
	$(RUN) scripts/demo.py --workdir runs/demo

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# Faces and doors; files in pyproject.toml.
types: $(VENV)/.installed
	$(VENV)/bin/mypy

test: lint types
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

docs: $(VENV)/.installed
	$(RUN) -m sphinx -W --keep-going -b html docs docs/_build/html

# The CPU build of torch, an eighth of the size, where none is installed yet.
baselines: $(VENV)/.installed
	$(RUN) -c 'import torch' 2>/dev/null || $(RUN) -m pip install -q torch --index-url https://download.pytorch.org/whl/cpu
	$(RUN) -m pip install -q -e '.[baselines]'
	$(RUN) scripts/benchmark.py baselines --workdir runs/baselines

# The compilers of TPU and CUDA need a newer Python; tests use them if built.
aot:
	test -x .venv-aot/bin/python || python3.12 -m venv .venv-aot
	.venv-aot/bin/python -m pip install -q -e '.[aot]'
	.venv-aot/bin/python scripts/aot.py

clean:
	rm -rf $(VENV) .venv-aot build docs/_build *.egg-info
