# Every target does its own set-up in .venv; a stamp file makes the second time free.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo
VIDEO ?=
# processes that share the tests, and notebooks at once; each takes a core and about 1.5 GB
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1
export HF_HUB_DISABLE_TELEMETRY = 1
export HF_HUB_DISABLE_PROGRESS_BARS = 1

.PHONY: demo render test golden hostile lab notebooks docs axe links colab sync lint types format format-check clean

# through the environment, so that spaces and quotes in a path stay what they are
demo: export V2A_VIDEO = $(VIDEO)
demo: export V2A_OUT = $(OUT)
demo: $(VENV)/.run
	@$(BIN)/v2a-nb demo $${V2A_VIDEO:+"$$V2A_VIDEO"} --out "$$V2A_OUT"

test: $(VENV)/.test $(VENV)/.lab
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

golden: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m golden

# broken, odd and dangerous files through every command; one process, which prints a table
hostile: $(VENV)/.test
	$(BIN)/python -m pytest -m "" tests/hostile

notebooks: $(VENV)/.test
	$(BIN)/python notebooks/run.py --jobs $(WORKERS) --keep build/notebooks

# the site, in build/site/index.html; of the notebooks, only those run whose copies from `make notebooks` are out of date.
# make docs EXECUTE= is quick: pages of notebooks without such a copy have no outputs
EXECUTE ?= yes
docs: $(VENV)/.docs
	$(if $(EXECUTE),$(BIN)/python notebooks/run.py --jobs $(WORKERS) --keep build/notebooks --stale)
	$(BIN)/python -m sphinx -q -E -W --keep-going -b html -d build/doctrees -c docs . build/site
	@echo "the site is build/site/index.html"

# axe-core, which tests and docs/look.py ask about pages: build/node_modules/axe-core/axe.min.js
axe:
	npm install --silent --no-save --prefix build axe-core@4

# links of the site to other sites; needs the network
links: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -b linkcheck -d build/doctrees -c docs . build/links

# an environment of Colab's shape, and the cell that its users run first; Colab has Python 3.13
colab: $(VENV)/.test
	$(BIN)/python tests/colab/shape.py --python $(PYTHON)

sync: $(VENV)/.test
	$(BIN)/python notebooks/sync.py

# cards, README and docs from the results.json of the shipped weights
render: $(VENV)/.run
	$(BIN)/v2a-nb score --render

lab: $(VENV)/.lab
	$(BIN)/jupyter lab notebooks/00_tour.ipynb

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff format .

format-check: $(VENV)/.dev
	$(BIN)/ruff format --check .

# half an environment would be taken for a whole one by the next make, so it goes
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "$(PYTHON) has no working venv module: install it (python3-venv)" >&2; exit 1; }

# editable_mode=compat: from the folder above a clone, Python would take the clone for the package
# constraints.txt pins what was tested, torch among it: the newest one may bring gigabytes that were not

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV), once; this takes some minutes ..." >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e ".[test]"
	@touch $@

$(VENV)/.lab: $(VENV)/.run
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e ".[lab]"
	@touch $@

$(VENV)/.docs: $(VENV)/.test
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e ".[docs]"
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt "ruff>=0.8" "pyright[nodejs]>=1.1.390"
	@touch $@

# runs/ stays: it may hold hours of training
clean:
	rm -rf $(VENV) demo build *.egg-info
