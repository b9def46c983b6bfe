# make demo: everything set up, real lab servers taken through all seven steps. make test: everything set up and tested.
.PHONY: demo run test test-fast test-full bench lint lab-up lab-down clean
PYTHON := .venv/bin/python
# Many processes begin here: they share what one of them has compiled, also where the environment says not to keep it.
export PYTHONDONTWRITEBYTECODE :=

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

test-fast: ## no lab, browser, PostgreSQL, whole migrations or walks over all pages: under a minute
	@.ci/bootstrap run
	@.ci/tests fast

test-full: ## the long matrices too, and virtual machines
	@.ci/bootstrap full
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
	@collected=$$($(PYTHON) -m pytest --collect-only -q) || { echo "$$collected" | grep -v ::; exit 1; } # every test can be imported

lab-up:
	@.ci/bootstrap demo
	@$(PYTHON) manage.py lab up

lab-down:
	@$(PYTHON) manage.py lab down

clean: lab-down ## the labs and what was built; the database and its keys in var/ stay
	@$(PYTHON) manage.py lab --lab demo down
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache var/demo
