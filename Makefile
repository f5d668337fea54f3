# Every target does its own set-up in .venv; a stamp file makes the second time free.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo
VIDEO ?=
export OMP_NUM_THREADS ?= 1
export HF_HUB_DISABLE_TELEMETRY = 1
export HF_HUB_DISABLE_PROGRESS_BARS = 1

.PHONY: demo test lab notebooks sync lint format format-check clean

demo: $(VENV)/.run
	$(BIN)/v2a-nb demo $(if $(VIDEO),"$(VIDEO)") --out "$(OUT)"

test: $(VENV)/.test
	$(BIN)/python -m pytest

notebooks: $(VENV)/.test
	$(BIN)/python notebooks/run.py

sync: $(VENV)/.test
	$(BIN)/python notebooks/sync.py

lab: $(VENV)/.lab
	$(BIN)/jupyter lab notebooks/00_tour.ipynb

lint: $(VENV)/.dev
	$(BIN)/ruff check .

format: $(VENV)/.dev
	$(BIN)/ruff format .

format-check: $(VENV)/.dev
	$(BIN)/ruff format --check .

# constraints.txt pins what was tested; above all the CPU-sized torch
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

$(VENV)/.lab: $(VENV)/.run
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[lab]"
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt "ruff>=0.8"
	@touch $@

clean:
	rm -rf $(VENV) demo runs *.egg-info
