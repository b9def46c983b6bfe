# make demo: everything set up, real lab servers taken through all seven steps. make test: everything set up and tested.
.PHONY: demo run test test-fast test-full bench lint lab-up lab-down clean
PYTHON := .venv/bin/python

demo: ## EXIT=1: end after the table; KIND=nspawn|process
	@.ci/bootstrap demo
	@$(PYTHON) manage.py demo $(if $(EXIT),--exit) $(if $(KIND),--kind $(KIND)) $(if $(PORT),--port $(PORT))

run: ## the product on this machine, at http://127.0.0.1:8000
	@.ci/bootstrap run
	@$(PYTHON) manage.py up $(if $(BIND),--bind $(BIND))

test: ## everything but the long matrices
	@.ci/bootstrap test
	@$(MAKE) --no-print-directory lint
	@.ci/tests most

test-fast: ## no lab, no browser, no PostgreSQL: under a minute
	@.ci/bootstrap run
	@.ci/tests fast

test-full: ## the long matrices too
	@.ci/bootstrap test
	@.ci/tests all

bench: ## ratios against plain rsync, side by side
	@.ci/bootstrap bench
	@$(PYTHON) manage.py bench

lint:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy migrationhub projects servers
	.venv/bin/lint-imports
	$(PYTHON) manage.py makemigrations --check --dry-run

lab-up:
	@.ci/bootstrap demo
	@$(PYTHON) manage.py lab up

lab-down:
	@$(PYTHON) manage.py lab down

clean: lab-down
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache var/demo
