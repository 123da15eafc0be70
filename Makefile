# What can be done with this tree. `make` lists it.
#
# Everything builds into one target directory, and tests run in cargo's dev profile, so that no step
# builds again what another has built.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
PORT ?= 8080
DATA ?= ./quire-data
FUZZ_SECONDS ?= 60
FUZZ ?=
BENCH ?=
COMPARE ?=
WEB := web-client
PEERS := loadtest/peers

export QUIRE_BIN ?= $(abspath $(TARGET)/debug/quire)

.PHONY: help run test test-rust test-page test-clients test-browser page fmt fmt-check lint docs boundaries fuzz fuzz-keep bench peers peers-check compare audit dist

help: ## list these targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: page ## build everything and serve three regions, side by side on http://127.0.0.1:8080
	cargo build --release --locked -p quire-server --bin quire
	@echo "Starting three regions. Open http://127.0.0.1:$(PORT)/ and type; Ctrl-C stops them."
	@exec $(TARGET)/release/quire demo --port $(PORT) --data "$(DATA)"

test: test-rust test-page test-clients test-browser ## every test there is, installing what they need

# The page comes first in each of these: the binary embeds it.
test-rust: page
	cargo build --locked --workspace --bins --tests
	if cargo nextest --version >/dev/null 2>&1; then \
	  cargo nextest run --locked --workspace --no-fail-fast --no-tests=pass; \
	else \
	  cargo test --locked --workspace --bins --lib --tests --no-fail-fast; \
	fi
	cargo test --locked --workspace --doc
	cargo test --locked -p quire-loadtest --features planted --test sim every_planted

test-page: $(WEB)/node_modules/.installed
	cd $(WEB) && npm run --silent test:unit

test-clients: page
	cargo build --locked --workspace --bins --tests
	cd $(WEB) && npm run --silent test:clients

test-browser: page
	scripts/need-chromium
	cargo build --locked --workspace --bins --tests
	cd $(WEB) && npm run --silent test:browser

page: $(WEB)/dist/index.html ## build the editor page

$(WEB)/dist/index.html: $(WEB)/node_modules/.installed $(WEB)/index.html $(WEB)/vite.config.js $(WEB)/tsconfig.json $(wildcard $(WEB)/src/*)
	cd $(WEB) && npm run --silent build

$(WEB)/node_modules/.installed: $(WEB)/package-lock.json $(WEB)/package.json
	scripts/need-node
	cd $(WEB) && npm ci --no-audit --no-fund --loglevel=error
	touch $@

fmt: ## format the Rust code
	cargo fmt --all

fmt-check:
	cargo fmt --all --check

lint: page ## clippy and the TypeScript compiler, warnings denied
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cd $(WEB) && npm run --silent check

docs: page ## build the API docs, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

boundaries: ## which crate may depend on what, and how long a file may be
	scripts/boundaries
	scripts/check-rules

fuzz: ## run every fuzz target for FUZZ_SECONDS (60) each, installing what it needs; FUZZ='update ysync' chooses
	scripts/fuzz $(FUZZ_SECONDS) $(FUZZ)

fuzz-keep: ## copy the least of what fuzzing reached on this machine to protocol/fuzz/kept, to be committed
	scripts/fuzz keep $(FUZZ)

bench: page ## regions measured as it is shipped; BENCH='--only one-room' and the like choose
	cargo build --locked --profile dist -p quire-server --bin quire -p quire-loadtest --bin quire-loadtest
	QUIRE_BIN=$(abspath $(TARGET))/dist/quire $(TARGET)/dist/quire-loadtest bench \
		--dir $(TARGET)/bench --json $(TARGET)/bench.json $(BENCH)

peers: $(PEERS)/node_modules/.installed ## install the other Yjs servers that Quire is compared with

$(PEERS)/node_modules/.installed: $(PEERS)/package-lock.json $(PEERS)/package.json scripts/install-peers
	scripts/install-peers

peers-check: peers page ## prove that a stock client of each server syncs through it
	cargo build --release --locked -p quire-server --bin quire
	QUIRE_BIN=$(abspath $(TARGET))/release/quire $(PEERS)/node_modules/.bin/node $(PEERS)/check.mjs

compare: peers page ## set Quire beside other servers; COMPARE='--only quire,y-sweet' and the like choose
	cargo build --release --locked -p quire-server --bin quire -p quire-loadtest --bin quire-loadtest
	$(TARGET)/release/quire-loadtest compare --peers $(PEERS)/peers.toml \
		--dir $(TARGET)/compare --json $(TARGET)/compare.json --html $(TARGET)/compare.html $(COMPARE)

audit: ## dependencies: bans, licences, sources
	cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny --all-features check bans licenses sources

dist: page ## the binary as it is shipped, packed for this platform
	cargo build --locked --profile dist -p quire-server --bin quire
	scripts/pack $(TARGET)
