# What can be done with this repository. "make" alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Where the tools' own installers put them, for shells that were not told.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/go/bin:/usr/sbin

IMAGE ?= localhost/outrigger:dev
export IMAGE
export OUTRIGGER_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/outrigger

# In CI the build directory lives in the cache: a clone is fresh each time, and a kept machine need not compile every dependency again.
ifeq ($(CI),true)
export CARGO_TARGET_DIR ?= $(OUTRIGGER_CACHE)/target
export CARGO_INCREMENTAL ?= 0
endif
export CARGO_TARGET_DIR ?= $(CURDIR)/target
TARGET := $(CARGO_TARGET_DIR)

# Most bytes of the runner, stripped: 4 MiB.
export RUNNER_BYTES := 4194304

CLUSTER := tests/cluster/cluster
SCRIPTS = $(shell git ls-files -z | xargs -0 awk 'FNR == 1 && /^\#!(\/usr)?\/bin\/(env )?(ba)?sh/ { print FILENAME } { nextfile }') $(wildcard tests/cluster/lib/*.sh)
# Every file of tests/ is a test program of its own; only e2e needs a cluster.
INTEGRATION = $(filter-out e2e,$(basename $(notdir $(wildcard tests/*.rs))) $(notdir $(patsubst %/main.rs,%,$(wildcard tests/*/main.rs))))

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: ## run everything that has to hold: lint, unit tests, a cluster, end-to-end tests
	@hack/test

.PHONY: prerequisites
prerequisites: ## check what the machine needs; as root on Debian, install it
	@hack/prerequisites build unit lint image servers $$([[ -n "$${KUBECONFIG:-}$${OUTRIGGER_CLUSTER_PROVIDER:-}" ]] || echo cluster)

.PHONY: build
build: ## build both programs, the runner statically
	@hack/prerequisites build
	cargo build --release --bin outrigger
	triple=$$(rustc -vV | sed -n 's/^host: //p')
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --no-default-features --bin outrigger-runner \
	  --target "$$triple" --target-dir "$(TARGET)/runner"
	ldd "$(TARGET)/runner/$$triple/release/outrigger-runner" 2>&1 | grep -E 'statically linked|not a dynamic' >/dev/null || \
	  { echo "outrigger-runner is not static: ldd lists libraries" >&2; exit 1; }
	bytes=$$(stat -c %s "$(TARGET)/runner/$$triple/release/outrigger-runner")
	((bytes <= RUNNER_BYTES)) || \
	  { echo "outrigger-runner has $$bytes bytes, more than $$RUNNER_BYTES: every Job maps it" >&2; exit 1; }
	mkdir -p "$(TARGET)/image"
	install -m 0755 -C "$(TARGET)/release/outrigger" "$(TARGET)/runner/$$triple/release/outrigger-runner" "$(TARGET)/image/"

.PHONY: runner-test
runner-test: ## test the runner that goes into the image, once it is built
	@OUTRIGGER_TEST_RUNNER="$(TARGET)/image/outrigger-runner" cargo test --test runner

.PHONY: image
image: build ## build the container image (IMAGE=localhost/outrigger:dev)
	@hack/prerequisites image
	hack/image "$(IMAGE)" "$(TARGET)/image"

.PHONY: cluster-build
cluster-build: ## build the local cluster's programs into the cache
	@$(CLUSTER) build

.PHONY: cluster-up
cluster-up: ## start the local cluster, or repair it
	@$(CLUSTER) up

.PHONY: cluster-down
cluster-down: ## remove the local cluster and all that it made
	@$(CLUSTER) down

.PHONY: cluster-test
cluster-test: ## test the cluster scripts on a cluster of their own
	@tests/cluster/test

.PHONY: lint lint-rust lint-shell lint-chart
lint: lint-rust lint-shell lint-chart ## check formatting, clippy, links in doc comments, shell scripts and the chart

lint-rust:
	@hack/prerequisites lint
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet

lint-shell:
	@hack/prerequisites lint
	shellcheck -x $(SCRIPTS)

lint-chart:
	@$(CLUSTER) build helm
	export PATH="$$OUTRIGGER_CACHE/bin:$$PATH"
	for chart in charts/*/Chart.yaml; do helm lint --strict "$${chart%/*}"; done
	tests/chart
	helm template outrigger charts/outrigger --namespace outrigger-system | diff -u deploy/outrigger.yaml - || \
	  { echo "deploy/outrigger.yaml is stale; run: make generate" >&2; exit 1; }

.PHONY: generate
generate: ## write what is generated: definitions, plain manifests
	cargo run --quiet -- crds --dir crds
	cargo run --quiet -- crds --dir charts/outrigger/files/crds
	$(CLUSTER) build helm
	export PATH="$$OUTRIGGER_CACHE/bin:$$PATH"
	helm template outrigger charts/outrigger --namespace outrigger-system > deploy/outrigger.yaml

.PHONY: unit
unit: ## run the tests that need no cluster
	@hack/prerequisites build unit servers
	cargo test --lib --bins $(addprefix --test ,$(INTEGRATION))

.PHONY: examples
examples: ## test the example extension and the small servers that the tests use
	@hack/prerequisites servers
	tests/servers/run
	tests/redfish/run

.PHONY: e2e e2e-run
e2e: ## run the end-to-end tests: cluster, image, tests
	@hack/step cluster-up $(MAKE) cluster-up
	hack/step image $(MAKE) image
	hack/step cluster-test $(MAKE) cluster-test
	hack/step e2e-run $(MAKE) e2e-run

e2e-run:
	@hack/prerequisites servers
	OUTRIGGER_IMAGE=$$($(CLUSTER) load "$(IMAGE)")
	export OUTRIGGER_IMAGE
	environment=$$($(CLUSTER) env)
	eval "$$environment"
	cargo test --test e2e -- --nocapture

.PHONY: demo
demo: ## show it all: cluster, operator, a real extension, an action's result
	@examples/demo.sh up

.PHONY: clean-demo
clean-demo: ## undo "make demo"
	@examples/demo.sh down

.PHONY: bench bench-run bench-install
export BENCH_RUNS ?= 20
export BENCH_BURST ?= 100
export BENCH_WITHOUT_REPORT ?= 20

bench: ## measure runs against bare Jobs (BENCH_RUNS=20 BENCH_BURST=100 BENCH_WITHOUT_REPORT=20), and installs
	@hack/step cluster-up $(MAKE) cluster-up
	hack/step image $(MAKE) image
	hack/step bench-run $(MAKE) bench-run
	hack/step bench-install $(MAKE) bench-install

# The program waits and notes the time; what it measures is the image's release build.
bench-run:
	@OUTRIGGER_IMAGE=$$($(CLUSTER) load "$(IMAGE)")
	export OUTRIGGER_IMAGE
	environment=$$($(CLUSTER) env)
	eval "$$environment"
	mkdir -p "$(TARGET)/bench"
	rm -f "$(TARGET)/bench/runner.json" "$(TARGET)/bench/run.json"
	overhead=0
	OUTRIGGER_TEST_RUNNER="$(TARGET)/image/outrigger-runner" OUTRIGGER_OVERHEAD_JSON="$(TARGET)/bench/runner.json" \
	  cargo test --test runner overhead -- --ignored --nocapture || overhead=$$?
	cargo bench --profile dev --bench run
	if ((overhead)); then echo "bench-run: the runner's own time was too long, or not measured: see above" >&2; exit 1; fi

# The floor is measured in the benchmark itself, so that is a release build, too. Neither needs an image.
bench-install: ## measure installs against their floor (BENCH_SOURCE=archive|oci BENCH_EXTENSIONS=1000 BENCH_ROUNDS=3 BENCH_IDLE_SECONDS=120)
	@$(CLUSTER) up
	cargo build --release --bin outrigger --bench install
	environment=$$($(CLUSTER) env)
	eval "$$environment"
	$(CLUSTER) exec cargo bench --offline --profile release --bench install

.PHONY: soak
soak: ## run the long forms of property, fault and load tests (hours)
	PROPTEST_CASES=20000 $(MAKE) unit
	OUTRIGGER_SOAK=1 $(MAKE) e2e

.PHONY: deny
deny: ## check dependencies: licences, sources, bans, advisories
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check bans licenses sources advisories; \
	else echo "cargo-deny is not installed, nothing checked; install it with: cargo install --locked cargo-deny"; fi

# A recipe is one script, so that variables last from line to line.
.ONESHELL:
