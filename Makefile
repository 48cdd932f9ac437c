# Everything runs in .venv, which the first target that needs it makes. Another interpreter: make test PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
OUT ?= outputs
# What `make track` tracks; make track VIDEO=my.mp4 EXPRESSION="the black swan" BOX=34,40,120,160
VIDEO ?= examples/sample.mp4
MODEL ?= elysium
# The small checkpoint of drawn shapes, which tests and docs/results.md run on
DRAWN ?= tests/fixtures/drawn_shapes
EXPRESSION ?=
SAMPLE_BOX := 158,58,216,199
BOX ?= $(if $(filter examples/sample.mp4,$(VIDEO)),$(SAMPLE_BOX))
# Processes that run the tests; a file's tests stay together, in order, so that a run is like any other
WORKERS ?= 2
NEWEST ?= .venv-newest
DEEPSPEED ?= .venv-deepspeed
DEMO ?= .venv-demo
# The site is built in an environment of its own: it needs nothing of the packages but their text
DOCS ?= .venv-docs
BIN := $(VENV)/bin
PARALLEL = -n $(WORKERS) --dist loadfile
READY := $(BIN)/.elysium-ready
PIP := $(BIN)/python -m pip --disable-pip-version-check
WRITE = --output $(OUT)/$(1).mp4 --json $(OUT)/$(1).json --contact-sheet $(OUT)/$(1).png

.PHONY: help setup style types check test coverage test-newest test-deepspeed test-slow test-gpu track results bench tiny-model
.PHONY: checkpoint-code docs wheel-test test-browser clean
help:           ## what there is to run
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(READY): setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch && $(PIP) install -q -c constraints.txt -e ".[dev]"
	touch $@

setup: $(READY) ## make or refresh .venv

style: $(READY) ## rewrite the code in the house style
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: $(READY) ## check the types of the public packages
	$(BIN)/python -m tests.house.types

check: $(READY) ## lint, format, and the laws of the house (layers, sizes)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m pytest tests/house

test: $(READY)  ## all tests but the slow, the GPU's and the network's
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

coverage: $(READY) ## the same, with the lines that no test runs
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term --cov-report=xml $(ARGS)

test-newest:    ## the same with the newest versions of everything, pinned nowhere, in an environment of its own
	test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install -q --upgrade --upgrade-strategy eager -e ".[dev]"
	$(NEWEST)/bin/python -m pip freeze --exclude-editable
	$(NEWEST)/bin/python -m pytest $(PARALLEL) $(ARGS)

test-deepspeed: ## the tests that skip without DeepSpeed (Linux), in an environment of its own
	test -x $(DEEPSPEED)/bin/python || $(PYTHON) -m venv $(DEEPSPEED)
	$(DEEPSPEED)/bin/python -m pip install -q -c constraints.txt torch
	$(DEEPSPEED)/bin/python -m pip install -q -c constraints.txt -e ".[dev,train]"
	TORCH_EXTENSIONS_DIR=$(abspath $(DEEPSPEED))/kernels $(DEEPSPEED)/bin/python -m pytest -m slow -k zero tests/train/test_engines.py $(ARGS)

test-browser:   ## the demo in Chromium (`chromium`, or CHROMIUM=...), in an environment of its own: Gradio asks for another pillow
	test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO)
	grep -v '^pillow' constraints.txt > $(DEMO)/constraints.txt
	$(DEMO)/bin/python -m pip install -q -c $(DEMO)/constraints.txt torch
	$(DEMO)/bin/python -m pip install -q -c $(DEMO)/constraints.txt -e ".[browser]" pytest hypothesis
	$(DEMO)/bin/python -m pytest -m browser tests/demo $(ARGS)

test-slow: $(READY) ## the slow tests
	$(BIN)/python -m pytest -m slow $(ARGS)

test-gpu: $(READY) ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(ARGS)

track: $(READY) ## track the sample by box, or VIDEO=... by BOX=... or EXPRESSION=...: video, JSON, contact sheet in outputs/
	$(if $(EXPRESSION),$(BIN)/elysium track $(VIDEO) --model $(MODEL) --expression "$(EXPRESSION)" $(call WRITE,by_words))
	$(if $(BOX),$(BIN)/elysium track $(VIDEO) --model $(MODEL) --box $(BOX) $(call WRITE,by_box))

results: $(READY) ## evaluate models and baselines, write docs/results.md; make results DATA=... for the real video, too
	$(BIN)/python -m evaluate_metrics.results --drawn $(DRAWN) --model $(MODEL) $(if $(DATA),--data $(DATA))

bench: $(READY) ## speed and peak memory of tracking the sample
	$(BIN)/python -m benchmarks.track_sample --model $(MODEL)

tiny-model: $(READY) ## train the checkpoint of drawn shapes anew (hours; the same command resumes)
	$(BIN)/python -m train.sft train/recipes/tiny.yaml --output runs/tiny

checkpoint-code: $(READY) ## renew the links of the checkpoints in the clone to the code of the packages
	$(BIN)/python -m train.checkpoint_code elysium $(DRAWN)

docs:           ## the documentation as a site, in build/site
	test -x $(DOCS)/bin/mkdocs || ($(PYTHON) -m venv $(DOCS) && \
	    $(DOCS)/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt mkdocs-material "mkdocstrings[python]")
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

wheel-test:     ## build the wheel, install it into a new environment and use it outside the clone
	tests/external/try_wheel.sh $(PYTHON)

clean:          ## remove what runs wrote (not .venv, not training runs)
	rm -rf $(OUT) .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage coverage.xml build *.egg-info
