# Every target sets up what it needs (scripts/setup.sh) and is quick when that is done.
BIN := .venv/bin
DEMO_OUTPUT ?= results/demo
DEMO_PROFILES := $(addprefix mitigations/library/,block-mkdir.json deny-create-directory-by-name.json no-new-directories.json)
PYTEST_ARGS ?=

.PHONY: demo kubernetes-demo test test-vm check live setup dev native format lint types layers docs site wheel clean

# Exit code 1 is a gate that failed: two of the three do not hold what they are meant to.
demo: setup
	@echo "sidestep evaluate $(DEMO_PROFILES) --objective no-new-directories -o $(DEMO_OUTPUT)"
	@$(BIN)/sidestep evaluate $(DEMO_PROFILES) --objective no-new-directories -o $(DEMO_OUTPUT) || test $$? -eq 1
	@echo "Report: $(abspath $(DEMO_OUTPUT))/report.html"

# Pods through a containerd and a runc of our own: exit code 0 if all is as claimed.
kubernetes-demo:
	@scripts/setup.sh pods
	@$(BIN)/python -m docs.kubernetes_demo

test: dev
	@$(BIN)/pytest -n auto $(PYTEST_ARGS)

# Other kernels, in virtual machines: needs QEMU, and downloads kernels to the cache on the first run.
test-vm: dev
	@timeout --kill-after=10 900 $(BIN)/pytest tests/vm $(PYTEST_ARGS)

check: lint types layers
	@$(BIN)/pytest tests/unit tests/contract tests/sim $(PYTEST_ARGS)

live: dev
	@SIDESTEP_REQUIRE_LIVE=1 $(BIN)/pytest tests/live $(PYTEST_ARGS)

setup:
	@scripts/setup.sh run

dev:
	@scripts/setup.sh dev

native: setup
	$(BIN)/python evaluator/native/build.py --force

format: dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: dev
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: dev
	$(BIN)/lint-imports

docs: dev
	$(BIN)/python docs/attack_library.py --write
	$(BIN)/python docs/data.py --write
	$(BIN)/python docs/reference.py --write
	$(BIN)/python docs/attainable.py --write
	$(BIN)/python docs/claims.py --write
	$(BIN)/python docs/runtimes.py --write
	$(BIN)/python docs/readme.py

# Pages for a browser, from docs/: build/site/index.html.
site: dev
	$(BIN)/sphinx-build -q -W --keep-going -d build/doctrees docs build/site
	@echo "Site: $(abspath build/site)/index.html"

wheel: dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv build dist evaluator/_bin .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
