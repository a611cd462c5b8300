# Each target works on a fresh machine with Python >= 3.11: what it needs is installed into .venv first.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help check format test test-image-python e2e-node chaos bench demo chart-readme kubectl-docs messages krew docs reference drawings recordings demo-recording dashboard-picture e2e-kubelet audit sbom lock clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installed: pyproject.toml requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-deps --require-hashes --requirement requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/installed ## Watch AssetTokens become Secrets and renew, on a real control plane
	$(BIN)/python -m demo $(ARGS)

test: check docs ## Run all checks and all tests, and the short form of the fault suite
	-$(BIN)/python -m tests.support.gobuild
	$(BIN)/pytest --numprocesses=2 --dist=worksteal $(ARGS)
	$(BIN)/python -m tests.faults --short

IMAGE_PYTHON ?= python$(shell sed -n 's|^FROM docker.io/library/python:\([0-9.]*\)-slim$$|\1|p' Dockerfile)

.venv-image/installed: pyproject.toml requirements/dev.txt
	$(IMAGE_PYTHON) -m venv .venv-image
	.venv-image/bin/pip install --quiet --no-deps --require-hashes --requirement requirements/dev.txt
	.venv-image/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

test-image-python: .venv-image/installed ## Run what differs between Pythons, TLS above all, on the image's
	.venv-image/bin/pytest tests/adapters tests/unit/test_kubeconfig.py tests/unit/test_health.py $(ARGS)

e2e-node: .venv/installed ## Build the image and run it as Pods of the chart on a real node (Linux, root, Debian's packages)
	$(BIN)/python -m tests.support.node
	$(BIN)/pytest tests/node --timeout=900 $(ARGS)

e2e-kubelet: .venv/installed ## Measure how late Pods see renewed tokens with the kubelet's default settings (20 minutes)
	$(BIN)/python -m tests.support.node
	$(BIN)/pytest tests/node/test_consumer.py --default-kubelet --timeout=3600 $(ARGS)

chaos: .venv/installed ## Measure the operator under faults, and simulate days of it (ARGS=--short: in minutes; else two hours)
	$(BIN)/python -m tests.faults $(ARGS)
	$(BIN)/python -m tests.simulation $(if $(ARGS),,--all)
	HYPOTHESIS_PROFILE=thorough $(BIN)/pytest tests/properties --timeout=1800
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest tests/properties/test_answers.py -k "read_or_refused" --timeout=1800

.venv/bench-installed: .venv/installed requirements/bench.txt
	$(BIN)/pip install --quiet --no-deps --require-hashes --requirement requirements/bench.txt
	touch $@

bench: .venv/bench-installed ## Measure time, CPU, memory and calls over many AssetTokens (Linux; ARGS=--quick: up to 1,000)
	$(BIN)/python -m benchmarks $(ARGS)

check: .venv/installed ## Formatting, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .venv/installed ## Format the code and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

chart-readme: .venv/installed ## Write the values of the chart into its README
	$(BIN)/python -m deploy.chart_readme

.venv-release/installed: requirements/release.txt
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/pip install --quiet --no-deps --require-hashes --requirement requirements/release.txt
	touch $@

kubectl-docs: .venv/installed ## Record what the kubectl plugin writes, into docs/kubectl.md and its pictures
	UPDATE_DOCS=1 $(BIN)/pytest -n0 tests/cluster/kubectl/test_docs.py

messages: .venv/installed ## Write all that is ever said, read from the source, into docs/messages.md
	$(BIN)/python -m tests.support.messages

krew: .venv/installed ## Make the kubectl plugin's archives and manifest for krew (BASE_URL, HOMEPAGE) in dist/
	$(BIN)/python -m deploy.krew --base-url='$(BASE_URL)' --homepage='$(HOMEPAGE)'

.venv-docs/installed: requirements/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --no-deps --require-hashes --requirement requirements/docs.txt
	touch $@

docs: .venv-docs/installed ## Build the documentation site into build/website/site; a warning or a broken link fails it
	.venv-docs/bin/python -m website

reference: .venv/installed ## Write what follows from the code into docs/: fields, flags, decisions, examples
	$(BIN)/python -m website.reference

drawings: .venv/installed ## Draw the concepts' pictures anew
	$(BIN)/python -m website.drawings

recordings: .venv/installed ## Run what the pages show, and write what was really written into them
	UPDATE_DOCS=1 $(BIN)/pytest -n0 tests/cluster/docs/test_walk.py

demo-recording: .venv/installed ## Record make demo as a picture that plays
	$(BIN)/python -m demo.recording

dashboard-picture: .venv/bench-installed ## Draw what the dashboard shows of a real run of some minutes
	UPDATE_DOCS=1 $(BIN)/pytest -n0 tests/cluster/docs/test_dashboard.py --timeout=900

audit: .venv-release/installed ## Look for known weaknesses in what the image has
	.venv-release/bin/pip-audit --disable-pip --require-hashes --requirement requirements/run.txt

sbom: .venv-release/installed ## Write the CycloneDX SBOM of the image's Python part to dist/
	mkdir -p dist
	.venv-release/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.cdx.json requirements/run.txt

lock: ## Renew the locked dependencies (needs uv)
	uv pip compile pyproject.toml $(LOCK) -o requirements/run.txt
	uv pip compile --group build $(LOCK) -o requirements/build.txt
	uv pip compile --group release $(LOCK) -o requirements/release.txt
	uv pip compile --group docs $(LOCK) -o requirements/docs.txt
	uv pip compile pyproject.toml --group dev -c requirements/run.txt $(LOCK) -o requirements/dev.txt
	uv pip compile --group bench -c requirements/dev.txt $(LOCK) -o requirements/bench.txt
LOCK := --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --upgrade -q

clean: ## Remove what the targets above made here
	rm -rf .venv .venv-docs .venv-image .venv-release build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
