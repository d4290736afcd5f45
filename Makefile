# Every target does all the set-up it needs. Without make (Windows): py tools\setup.py
PYTHON ?= python3
QUANT ?= Q4_K_M
TORCH ?= torch==2.13.0

# Handed over in the environment, so that a name with spaces or a dollar sign stays one word.
export MODEL QUANT

BIN := .venv/bin
on = $(filter-out 0 no off,$(1))
FLAGS = $(if $(call on,$(CUDA)),--cuda) $(if $(call on,$(REBUILD)),--rebuild)
SETUP = @command -v $(PYTHON) >/dev/null 2>&1 || \
	{ echo "error: there is no $(PYTHON) here; install Python 3.11 or newer, or name one: make PYTHON=python3.12 $@" >&2; exit 1; }; \
	$(PYTHON) tools/setup.py $(FLAGS)

.PHONY: help setup demo test convert plan bench tune serve lint clean uninstall real-test oracle soak survive \
	server-test browser-test kiosk-test pack bench-convert bench-engine bench-levels bench-plan bench-serve \
	bench-compare bench-constrained bench-transformers bench-warm

help:
	@echo "make setup      install everything into .venv (CUDA=1: for NVIDIA GPUs; REBUILD=1: build llama.cpp again)"
	@echo "make demo       convert the embedded tiny models, run each, print tokens/s and an answer"
	@echo "make convert    MODEL=qwen2.5-7b QUANT=Q4_K_M,Q8_0: fetch and convert; or MODEL=./my-checkpoint"
	@echo "make plan       MODEL=qwen2.5-7b: which level fits this machine and how fast it will be, before any download"
	@echo "make bench      MODEL=qwen2.5-7b: speed, memory and quality of every level that is here (QUANT=Q4_0: of that)"
	@echo "make tune       MODEL=qwen2.5-7b: find the settings that it likes on this machine"
	@echo "make serve      MODEL=qwen2.5-7b: an OpenAI-compatible server and a chat page, on this machine only"
	@echo "make pack       MODEL=qwen2.5-7b ARGS=\"--config kiosk.toml\": one file for kiosks without a network"
	@echo "make test       the test suite"
	@echo "make lint       ruff and pyright"
	@echo "make clean      remove caches and build rubbish"
	@echo "make uninstall  remove .venv, and say where the models are"
	@echo "for developers: make real-test, make server-test, make browser-test, make kiosk-test, make oracle, make soak,"
	@echo "                make survive, make bench-convert, make bench-engine, make bench-levels, make bench-plan,"
	@echo "                make bench-serve, make bench-compare, make bench-constrained, make bench-transformers,"
	@echo "                make bench-warm"

setup:
	$(SETUP)

demo:
	$(SETUP)
	@$(BIN)/python -m edge demo

test:
	$(SETUP) --extra test
	$(BIN)/python -m pytest -n auto --dist loadfile

convert:
	@test -n "$$MODEL" || { echo "error: say which model: make convert MODEL=qwen2.5-7b QUANT=$(QUANT)" >&2; exit 2; }
	$(SETUP)
	@$(BIN)/edge convert "$$MODEL" --level "$$QUANT"

NAMED = @test -n "$$MODEL" || { echo "error: say which model: make $@ MODEL=qwen2.5-7b" >&2; exit 2; }

plan:
	$(NAMED)
	$(SETUP)
	@$(BIN)/edge plan "$$MODEL" $(if $(filter command line environment,$(origin QUANT)),--levels "$$QUANT")

bench:
	$(NAMED)
	$(SETUP)
	@$(BIN)/edge bench "$$MODEL" $(if $(filter command line environment,$(origin QUANT)),--levels "$$QUANT") $(ARGS)

tune:
	$(NAMED)
	$(SETUP)
	@$(BIN)/edge tune "$$MODEL"

serve:
	$(NAMED)
	$(SETUP)
	@$(BIN)/edge serve "$$MODEL$(if $(filter command line environment,$(origin QUANT)),:$$QUANT)" $(ARGS)

pack:
	$(NAMED)
	$(SETUP) --extra pack
	@$(BIN)/edge pack "$$MODEL$(if $(filter command line environment,$(origin QUANT)),:$$QUANT)" $(ARGS)

lint:
	$(SETUP) --extra test --extra dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

real-test:
	$(SETUP) --extra test
	$(BIN)/python -m pytest tests/real

server-test:
	$(SETUP) --extra test --extra server-test
	$(BIN)/python -m pytest tests/clients

browser-test:
	$(SETUP) --extra test --extra server-test
	$(BIN)/python -m pytest tests/browser

kiosk-test:
	$(SETUP) --extra test --extra pack
	$(BIN)/python -m pytest tests/kiosk

survive:
	$(SETUP) --extra test
	$(BIN)/python -m tests.survive.kill
	$(BIN)/python -m tests.survive.mutate
	$(BIN)/python -m tests.survive.disk
	$(BIN)/python -m tests.survive.soak

oracle:
	$(SETUP) --venv .venv-oracle --with "$(TORCH)" --extra test --extra oracle
	.venv-oracle/bin/python -m pytest tests/oracle

soak:
	$(SETUP) --extra test
	EDGE_SOAK=1000 $(BIN)/python -m pytest tests/edge/engine/test_soak.py --durations=0

bench-convert:
	$(SETUP) --venv .venv-oracle --with "$(TORCH)" --extra test --extra oracle
	.venv-oracle/bin/python -m benchmarks.convert

bench-engine:
	$(SETUP) --extra test
	$(BIN)/python -m benchmarks.engine

bench-levels:
	$(SETUP) --extra test
	$(BIN)/python -m benchmarks.levels

bench-plan:
	$(SETUP) --extra test
	$(BIN)/python -m benchmarks.plan

bench-compare:
	$(SETUP) --extra test
	$(BIN)/python -m benchmarks.compare

bench-serve:
	$(SETUP) --extra test
	$(BIN)/python -m benchmarks.serve

bench-constrained:
	$(SETUP) --extra test
	$(BIN)/python -m benchmarks.constrained

bench-warm:
	$(SETUP) --extra test
	$(BIN)/python -m benchmarks.warm

bench-transformers:
	$(SETUP) --venv .venv-oracle --with "$(TORCH)" --extra test --extra oracle
	.venv-oracle/bin/python -m benchmarks.decode_transformers

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find convert edge tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

uninstall:
	@if [ -x $(BIN)/python ]; then \
		where=$$($(BIN)/python -c "from edge.store import models_dir; print(models_dir())" 2>/dev/null) && \
		echo "Your models stay in $$where; to remove them too: rm -r \"$$where\""; fi
	rm -rf .venv .venv-oracle
