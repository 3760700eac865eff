.DEFAULT_GOAL := help
.PHONY: help run dev test check format bench proxies clients lock clean

BIN := .venv/bin
# An installed uv is used; without one, the virtual environment gets its own.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo $(BIN)/uv)
# Compiled once here, not at each start where Python may not write.
INSTALL := $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python
# The frame is not in a lock: it lies beside this project and is installed from there.
LOCK := $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-package timberframe
export UV_PYTHON_DOWNLOADS := never

help: ## Show what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/run.stamp .env ## Install, migrate and serve on http://127.0.0.1:8000
	@$(BIN)/myapi serve --migrate

dev: .venv/dev.stamp .env ## Serve for development: migrate, and start again when a file changes
	@$(BIN)/myapi dev

# Keep bytecode whatever the shell says: each of a hundred processes would compile the code again.
test: .venv/dev.stamp ## Run all tests, the app's and the frame's, on SQLite and on PostgreSQL
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest timberframe/tests

check: .venv/dev.stamp ## Run what CI runs: format, lint, types, speed, all tests, and a new project
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m benchmarks.guard
	@$(MAKE) --no-print-directory test
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest timberframe/tests/generator -m new_project

format: .venv/dev.stamp ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev.stamp ## Measure speed against the guide's way and peers, and write docs/speed.md
	@$(BIN)/python -m benchmarks --write
	@$(BIN)/python -m benchmarks.service --write
	@$(BIN)/python -m benchmarks.growth --write
	@$(BIN)/python -m benchmarks.bulk --write
	@$(BIN)/python -m benchmarks.jobs --write
	@$(BIN)/python -m benchmarks.events --write
	@$(BIN)/python -m benchmarks.streams --write

proxies: .venv/dev.stamp ## Run the API behind nginx, Apache and Caddy, if they are installed
	@$(BIN)/python -m deploy.check_proxies

clients: .venv/dev.stamp .venv-clients/stamp clients/node_modules/stamp ## Try other people's clients (needs node)
	@$(BIN)/python -m clients

lock: $(UV) ## Compile the locks from pyproject.toml
	$(LOCK) pyproject.toml --group build --output-file requirements.lock
	$(LOCK) pyproject.toml --group build --group dev --constraint requirements.lock \
		--output-file requirements-dev.lock
	$(LOCK) --constraint requirements.lock benchmarks/requirements.in \
		--output-file benchmarks/requirements.lock
	$(LOCK) --constraint requirements.lock benchmarks/peers/requirements.in \
		--output-file benchmarks/peers/requirements.lock
	$(LOCK) benchmarks/queues/requirements.in --output-file benchmarks/queues/requirements.lock
	$(LOCK) clients/requirements.in --output-file clients/requirements.lock

clean: ## Remove the virtual environment and caches; data and .env stay
	rm -rf .venv .venv-bench .venv-peers .venv-queues .venv-clients \
		benchmarks/peers/fastify/node_modules clients/node_modules clients/generated \
		.mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/run.stamp: requirements.lock pyproject.toml timberframe/pyproject.toml | $(BIN)/python $(UV)
	@echo "Installing …"
	@$(INSTALL) --require-hashes --requirement requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable ./timberframe --editable .
	@touch $@

.venv/dev.stamp: requirements-dev.lock .venv/run.stamp
	@echo "Installing what the tests need …"
	@$(INSTALL) --require-hashes --requirement requirements-dev.lock
	@touch $@

.venv-clients/stamp: clients/requirements.lock | $(UV)
	@echo "Installing Python's clients …"
	@test -e .venv-clients || python3 -m venv .venv-clients
	@$(UV) pip sync --quiet --require-hashes --python .venv-clients/bin/python $<
	@touch $@

clients/node_modules/stamp: clients/package-lock.json
	@echo "Installing TypeScript's clients …"
	@npm ci --prefix clients --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(BIN)/python:
	@python3 -c 'import sys; sys.version_info >= (3, 11) or \
		sys.exit("myapi needs Python 3.11 or newer; python3 is " + sys.version.split()[0])'
	@python3 -m venv .venv

$(BIN)/uv: | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<1'

.env: .env.example | .venv/run.stamp
	@test -e .env || $(BIN)/python -c "import secrets; \
		key = 'SECRET_KEY=' + secrets.token_urlsafe(48); \
		text = open('.env.example').read().replace('SECRET_KEY=', key, 1); \
		open('.env', 'x').write(text)"
	@chmod 600 .env && touch .env
