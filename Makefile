# The commands for contributors. Each target does its own set-up, and prints progress where that takes long.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
DEVKIT := "$${CARGO_TARGET_DIR:-target}/debug/devkit"
# Small, built first: what is missing on this machine is fetched, or reported, before the long builds.
TOOLS := $(CARGO) run -p devkit-tools --
# The oldest and the newest Postgres that must work; the first one is the default.
POSTGRES ?= 15,18
# Passed on to the test programs, for instance ARGS='--nocapture chat'.
ARGS ?=
# Most tests wait for processes rather than for the processor.
TEST_THREADS ?= 8

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

.PHONY: demo
demo: ## Samples to chat answers on a local control plane and Postgres
	$(TOOLS) fetch
	@# Everything at once: built package by package, the same dependencies would be built with other features again.
	$(CARGO) build --workspace --bins
	@$(DEVKIT) demo

.PHONY: bench
bench: ## Counted and timed runs of the release build; ARGS='--only operator' and others: `benchmarks -h`
	$(TOOLS) fetch
	$(CARGO) build --release --workspace --bins
	@"$${CARGO_TARGET_DIR:-target}/release/benchmarks" $(ARGS)

.PHONY: test
test: ## Every test, against a real control plane and real Postgres servers
	$(TOOLS) fetch --postgres $(POSTGRES) --pgbouncer
	@# The Go programs and the Rust tests are built beside each other: on a fresh machine both take minutes.
	@"$${CARGO_TARGET_DIR:-target}/debug/devkit-tools" build & build=$$!; \
	  trap 'kill $$build 2>/dev/null || true' INT TERM; \
	  { $(CARGO) build --workspace --bins && $(CARGO) test --workspace --no-run; } || \
	    { kill $$build 2>/dev/null || true; exit 1; }; \
	  wait $$build
	$(DEVKIT) run --postgres $(POSTGRES) -- $(CARGO) test --workspace --no-fail-fast -- --test-threads=$(TEST_THREADS) $(ARGS)

.PHONY: matrix
matrix: ## The tests that need Postgres, on the two versions in the middle (16 and 17); `make test` has the others
	$(TOOLS) fetch --postgres 16,17 --pgbouncer
	AGENT_TENANCY_MIDDLE=1 $(CARGO) test --workspace --no-run
	AGENT_TENANCY_MIDDLE=1 $(DEVKIT) run --postgres 16,17 -- \
	  $(CARGO) test --no-fail-fast --test database --test agent_api --test operator -- --test-threads=$(TEST_THREADS) $(ARGS)

.PHONY: soak
soak: ## The tests that `make test` shortens, at full length: late signers, a storm over 200 tenants, long histories
	$(TOOLS) fetch --postgres $(POSTGRES)
	$(CARGO) build --workspace --bins
	GRACE=300 STORM=200 MODEL_CASES=3000 $(DEVKIT) run --postgres $(POSTGRES) -- $(CARGO) test --no-fail-fast \
	  --test model --test operator -- --nocapture whatever_goes_wrong after_a_storm twenty_rotations

.PHONY: lint
lint: ## Format, clippy, each program alone, docs and, where cargo-deny is installed, licences and sources
	$(CARGO) fmt --all --check
	$(CARGO) clippy -q --workspace --all-targets -- -D warnings
	@# Each program alone, with only the crates that it needs.
	$(CARGO) clippy -q --no-default-features --features operator --bin tenant-operator -- -D warnings
	$(CARGO) clippy -q --no-default-features --features agent-api --bin agent-api -- -D warnings
	$(CARGO) clippy -q --no-default-features --features kubectl-tenant --bin kubectl-tenant -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc -q --workspace --no-deps
	@if command -v cargo-deny >/dev/null; then \
	  echo '$(CARGO) deny --config config/deny.toml check bans licenses sources'; \
	  $(CARGO) deny --config config/deny.toml check bans licenses sources; \
	else \
	  echo 'lint: cargo-deny is not installed, so licences, bans and sources were NOT checked (cargo install cargo-deny)'; \
	fi

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: generate
generate: ## Write the generated files that are committed: CRDs, the chart's copy of them, tables of values and conditions
	UPDATE=1 $(CARGO) test -q --test contract --test chart --test readme generated

.PHONY: tools
tools: ## Find, fetch or build the programs that tests and demo need, and print them
	@$(TOOLS) list --postgres $(POSTGRES) --pgbouncer
