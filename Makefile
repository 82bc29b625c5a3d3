# `make train` trains the default preset, `make test` runs the whole suite; each sets up .venv first if need be.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: train test test-faults test-cluster test-slow test-gpu endurance lint clean

train: $(READY)
	$(VENV)/bin/distmgcd train digits

test: $(READY)
	$(VENV)/bin/python -m pytest

# Workers, nodes and drivers that are killed, frozen or taken away, for real.
test-faults: $(READY)
	$(VENV)/bin/python -m pytest tests/faults -m "slow or not slow"

# Jobs on a cluster of three hosts, played by network namespaces of this one: needs root on Linux.
test-cluster: $(READY)
	$(VENV)/bin/python -m pytest tests/cluster_rehearsal -m "slow or not slow"

# All that takes half a minute or more: the above, Slurm where it is installed, the real compiler.
test-slow: $(READY)
	$(VENV)/bin/python -m pytest -m slow

# What only a CUDA GPU can show.
test-gpu: $(READY)
	$(VENV)/bin/python -m pytest -m gpu

# 20,000 updates of digits at constant rate, an hour and a half on one core: does a blow-up cost the run?
endurance: $(READY)
	$(VENV)/bin/python tests/measurements/endurance.py runs

lint: $(READY)
	$(VENV)/bin/ruff check distmgcd tests
	$(VENV)/bin/ruff format --check distmgcd tests
	$(VENV)/bin/basedpyright

# Installed once, and again when what is installed changes. torch and torchvision are installed together, first:
# they must come from the same place and as a pair, or torchvision does not import.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "distmgcd needs Python 3.11 or newer, but $(PYTHON) is %d.%d; try make PYTHON=python3.11" % sys.version_info[:2])'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch torchvision
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV)
