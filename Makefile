# One way to do each thing. Everything runs inside .venv, made from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# The tests of the core packages: what covers them must be their own. OTHERS are all the rest.
OTHERS := api models transforms pipelines examples e2e docs
CORE_TESTS := tests $(addprefix --ignore=tests/,$(OTHERS))

.PHONY: help install demo test others slow coverage check bench faults runners docs lock clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## make .venv from requirements.lock (uv if there, else pip)

$(STAMP): requirements.lock pyproject.toml setup.py
	@bash .ci/install $(PYTHON)
	@touch $@

demo: install  ## run the whole job on a generated shop and show the result
	$(BIN)/topkin demo

test: install  ## all tests but those marked slow
	$(BIN)/python -m pytest -n 2 --dist loadfile

others: install  ## those that `make coverage` leaves out: both together are `make test`
	$(BIN)/python -m pytest -n 2 --dist loadfile $(addprefix tests/,$(OTHERS))

slow: install  ## the tests marked slow: those of the real shop and of other programs where they are there
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow --timeout=3600

coverage: install  ## the core's own tests; fails below the branch coverage that pyproject.toml asks for
	$(BIN)/python -m pytest -n 2 --dist loadfile $(CORE_TESTS) --cov

check: install  ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.peers  ## run the benchmarks that fit an hour (ROW=name for one), beside their peers
	$(BIN)/python -m benchmarks $(ROW)

.venv/.peers: requirements-bench.lock | install  # the peers: topkin itself needs none of them
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python --require-hashes -r $<; \
	  else $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<; fi
	@touch $@

faults: install  ## garbage and honest nights and what else may fail: all must come out right
	$(BIN)/python -m benchmarks.faults

runners: install $(BIN)/beam/prism  ## one run on every runner that can be had: tables must be equal
	$(BIN)/python -m benchmarks.runners

# Prism and the program of Beam's images that starts workers, of the installed Beam; without Go their rows are skipped.
$(BIN)/beam/prism: | install
	@mkdir -p $(@D)
	@if command -v go >/dev/null; then \
	  at=v$$($(BIN)/python -c 'from importlib.metadata import version; print(version("apache-beam"))') && \
	  GOBIN=$(CURDIR)/$(@D) go install github.com/apache/beam/sdks/v2/go/cmd/prism@$$at && \
	  GOBIN=$(CURDIR)/$(@D) go install github.com/apache/beam/sdks/v2/python/container@$$at; \
	else echo "Go is not here: nothing is run on Prism"; fi

docs: install  ## build the documentation into docs/_build
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

lock:  ## resolve requirements.lock and requirements-bench.lock again (needs uv)
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --custom-compile-command "make lock" --extra dev --extra docs pyproject.toml -o requirements.lock
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --custom-compile-command "make lock" --extra bench -c requirements.lock pyproject.toml -o requirements-bench.lock
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --custom-compile-command "make lock" --extra aws -c requirements.lock pyproject.toml -o deploy/requirements.lock

clean:  ## remove what the targets made
	rm -rf .venv docs/_build build dist *.egg-info
