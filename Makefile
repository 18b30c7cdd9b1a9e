# Two commands do everything, set-up included: `make run` and `make test`. The rest is for those who work on it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# Outside the clone, so that RocksDB is compiled once per machine whichever clone builds; one profile for all of it.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/messenger/target
export PATH := $(PATH):$(HOME)/.cargo/bin

# A compiler cache helps where there is one; a compiler that was chosen already stays. (CC and CXX are make's own defaults.)
ifneq ($(shell command -v ccache 2>/dev/null),)
ifeq ($(origin CC),default)
export CC := ccache gcc
endif
ifeq ($(origin CXX),default)
export CXX := ccache g++
endif
endif

MESSENGER := $(CARGO_TARGET_DIR)/debug/messenger
RELEASE := $(CARGO_TARGET_DIR)/release/messenger

.PHONY: help run test release bench conformance fuzz lint format build setup

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup:
	@.ci/setup

build: setup ## the binary alone
	@cargo build --locked --workspace --bin messenger

run: build ## builds and starts a local cluster of three nodes, and says how to try it
	@exec "$(MESSENGER)" dev

# The binary comes with the tests' own dependency features, so nothing is compiled twice.
test: setup ## all tests
	@cargo build --locked --workspace --all-targets
	@MESSENGER_BIN="$(MESSENGER)" cargo test --locked --workspace --no-fail-fast

release: setup ## the binary to install: optimised as a whole
	@cargo build --locked --release --workspace --bin messenger
	@echo "built $(RELEASE)"

bench: release ## measures sending, beside a three-node etcd where it is installed
	@exec node/scripts/bench.sh "$(RELEASE)"

conformance: build ## asks every route what its description allows and forbids (Schemathesis, from PyPI)
	@exec node/scripts/conformance.sh "$(MESSENGER)"

fuzz: setup ## ten minutes of bytes that are not quite what peers and clients send
	@FUZZ_SECONDS=300 cargo test --locked --workspace --test fuzz -- --nocapture
	@FUZZ_SECONDS=300 cargo test --locked --workspace --lib -- --nocapture no_text_upsets_the_reader

lint: setup ## formatting, lints, licences and advisories
	@cargo fmt --all --check
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check; \
	else echo "lint: cargo-deny is not installed, so licences and advisories were not checked (cargo install cargo-deny --locked)"; fi

format: ## formats the sources
	@cargo fmt --all
