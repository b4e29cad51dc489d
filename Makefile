# `make help` lists the targets. Each one first makes $(VENV) from requirements.lock if it is missing or older.

PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin/python

# Read once, when a process starts. Threads that spin while they wait can cost a small machine twenty-fold.
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_OFFLINE ?= 1
export HF_DATASETS_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export DIFFUSERS_DISABLE_REMOTE_CODE ?= 1
export PYTHONUNBUFFERED ?= 1

# What the demo does; every value can be given on the command line: make demo DEMO_STEPS=100
DEMO_METHODS ?= spotdiff pidiff
DEMO_STEPS ?= 60
DEMO_START ?= pocket/weights/adapters
DEMO_RUNS ?= runs/demo
DEMO_OUTPUT ?= results/demo
# Without bfloat16 units, bf16-mixed is many times slower on a CPU.
DEMO_TRAIN ?= --trainer.precision 32-true --trainer.max_steps $(DEMO_STEPS) --trainer.val_check_interval $(DEMO_STEPS)
DEMO_TRAIN_spotdiff ?= --data.first_stage.init_args.steps 20
DEMO_TRAIN_pidiff ?= --data.first_stage null
# Half of the subjects of the protocol, so that the demo stays within ten minutes.
DEMO_EVALUATE ?= --protocol.subjects 12

# The trainings of `make seeds METHOD=...`. One that was stopped goes on; a finished one is left as it is.
SEEDS ?= 0 1 2
SEEDS_CONFIG ?= configs/pocket/$(METHOD).yaml
SEEDS_RUNS ?= runs/seeds
SEEDS_TRAIN ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo seeds test lint format bench faults docs lock

help: ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## Make the Python environment

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --requirement requirements.lock
	@$(RUN) -c 'import cv2' 2>/dev/null || { \
		echo 'No graphics libraries here: putting the build of OpenCV without windows in place of the other one.'; \
		$(RUN) -m pip install --quiet --no-deps --force-reinstall \
			"opencv-python-headless==$$(sed -n 's/^opencv-python==//p' requirements.lock)"; \
	}
	@touch $@

demo: $(READY) ## Train each method briefly, evaluate it, print the leaderboard
	$(foreach method,$(DEMO_METHODS),$(RUN) train.py --config configs/pocket/$(method).yaml \
		--start_from $(DEMO_START)/$(method) --output $(DEMO_RUNS)/$(method) $(DEMO_TRAIN) $(DEMO_TRAIN_$(method)) &&) true
	$(RUN) evaluate.py --config configs/evaluation/pocket.yaml --runs $(DEMO_METHODS:%=$(DEMO_RUNS)/%) \
		--output $(DEMO_OUTPUT) $(DEMO_EVALUATE)

seeds: $(READY) ## Train a method several times with other seeds: make seeds METHOD=spotdiff
	@test -n '$(METHOD)' || { echo 'error: METHOD is missing: make seeds METHOD=spotdiff'; exit 2; }
	$(foreach seed,$(SEEDS),$(RUN) train.py --config $(SEEDS_CONFIG) --seed_everything $(seed) \
		--output $(SEEDS_RUNS)/$(METHOD)-$(seed) $(SEEDS_TRAIN) &&) true
	@echo 'As one entry: evaluate.py --runs $(foreach seed,$(SEEDS),$(METHOD)=$(SEEDS_RUNS)/$(METHOD)-$(seed))'

test: $(READY) ## Run the whole test suite on CPU, two-process runs included
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(READY) ## Check style, formatting and types
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy

format: $(READY) ## Format the code and mend what ruff can mend
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

bench: $(READY) ## Measure speed against references side by side, write performance/results.json
	OMP_NUM_THREADS=1 $(RUN) -m performance $(ARGS)

faults: $(READY) ## Do to the commands what machines and users do, print what became of it
	OMP_NUM_THREADS=1 $(RUN) -m performance.faults $(ARGS)

docs: build/docs-venv/.ready ## Build the documentation site, build/site/index.html; a broken link is an error
	build/docs-venv/bin/python -m sphinx --quiet --fail-on-warning --keep-going --conf-dir docs/site . build/site
	@echo 'The site: build/site/index.html'

build/docs-venv/.ready: pyproject.toml
	$(PYTHON) -m venv --clear build/docs-venv
	$(PYTHON) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["optional-dependencies"]["docs"], sep="\n")' > build/docs.in
	build/docs-venv/bin/python -m pip install --quiet --requirement build/docs.in
	@touch $@

lock: ## Make requirements.lock again from pyproject.toml (needs a package index)
	$(PYTHON) -m venv --clear build/lock
	$(PYTHON) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["dev"], sep="\n")' > build/requirements.in
	build/lock/bin/python -m pip install --quiet --requirement build/requirements.in
	echo '# Every package of a working environment. Made by `make lock` from pyproject.toml, not by hand.' > requirements.lock
	build/lock/bin/python -m pip freeze --all --exclude pip | grep -viE '^(nvidia|cuda|triton)' | sed 's/+cpu$$//' >> requirements.lock
