# `make help` lists the targets. Each step prints a heading, and the first failure ends the run.

.DEFAULT_GOAL := help
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
# The steps share cargo's target folder and the cores, so they run one after another whatever -j says.
.NOTPARALLEL:

# Programs that scripts/setup.sh installed in target/venv come first. A CI may lack cargo in its PATH.
export PATH := $(CURDIR)/target/venv/bin:$(PATH):$(HOME)/.cargo/bin
# Twenty frames of a runtime hide what a failed test says.
export RUST_BACKTRACE := 0
heading = @printf '\n== %s\n' '$(1)'

## test: run everything that must pass: formatting, lints, tests, client, docs, licences
.PHONY: test
test: setup fmt layers clippy rust-test over-tls bench-build client-check client-test browser-test doc deny
	@printf '\nAll passed.\n'

## setup: install what the tests need (memcached, proxies for it, Chromium, Firefox, Node.js, Go, Python with memcached clients)
.PHONY: setup
setup:
	$(call heading,setup)
	@scripts/setup.sh

## fmt: check that all code is formatted
.PHONY: fmt
fmt:
	$(call heading,cargo fmt)
	@cargo fmt --all --check

## layers: check that each part imports only parts below it, and that there are no import circles
.PHONY: layers
layers:
	$(call heading,layers and circles)
	@scripts/check_layers.py --self-test
	@scripts/check_layers.py

## clippy: run the lints; warnings are errors
.PHONY: clippy
clippy:
	$(call heading,cargo clippy)
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	@cargo clippy --locked --test truth -- -D warnings

## rust-test: run unit, property, integration and doc tests, and replay the fuzz corpora
.PHONY: rust-test
# One row of each kind; `make truth` has all of them.
TRUTH_SOME ?= a_false_offline_is_seen flush_all_in_three_seconds restart_at_once a_fresh_edge a_node_is_added cut_off_for_5_s drained behind_twemproxy \
    users_move_to_and_fro
# Most of them wait most of the time: for time-outs, entries that end, and the like.
TEST_THREADS ?= 5
# Some of them use npm packages of the client: ws, oidc-provider, jose.
rust-test: client/node_modules/.package-lock.json
	$(call heading,cargo test)
	@RUST_TEST_THREADS=$(TEST_THREADS) cargo test --locked --workspace
	$(call heading,truth: some of the rows)
	@cargo test --locked --test truth -- --test-threads 10 $(TRUTH_SOME)

## over-tls: run the tests of the edge with clients that speak TLS (OVER_TLS_SOME="": all of them)
.PHONY: over-tls
# All take some minutes; these have most of what a connection can meet.
OVER_TLS_SOME ?= drain:: first_message:: frames:: hostile:: http:: polling:: refused_sessions:: renewal::
# The clients and proxies of these speak without TLS, or they are about what is refused before there is TLS, or not about clients.
OVER_TLS_NONE = backends:: certificates:: cli:: fuzz_corpus:: proxies:: simulation:: socketio::clients:: store tls:: \
    a_proxy_that_refuses_long_heads handshake_rates::of_the_whole_server requests_under_way_keep_others_out_who_are_told_so
over-tls: client/node_modules/.package-lock.json
	$(call heading,cargo test: over TLS)
	@OVER_TLS=1 RUST_TEST_THREADS=$(TEST_THREADS) cargo test --locked --test it -- $(OVER_TLS_SOME) $(addprefix --skip ,$(OVER_TLS_NONE))

## truth: measure for how long live users are called offline during each fault, and print the table (docs/truth.md)
.PHONY: truth
truth: setup
	$(call heading,truth)
	@scripts/truth.sh

## loom: explore all interleavings with one preemption more than `make rust-test` (PREEMPTIONS=3)
.PHONY: loom
PREEMPTIONS ?= 3
loom:
	$(call heading,loom with $(PREEMPTIONS) preemptions)
	@LOOM_MAX_PREEMPTIONS=$(PREEMPTIONS) cargo test --locked --test loom_presence

## shuttle: explore random interleavings of more users and threads (ITERATIONS=200000)
.PHONY: shuttle
ITERATIONS ?= 200000
shuttle:
	$(call heading,shuttle: $(ITERATIONS) schedules of each kind)
	@SHUTTLE_ITERATIONS=$(ITERATIONS) cargo test --locked --test shuttle_presence

## soak: run loom, shuttle, faults, truth, slow-http, the edge over TLS, the store's comparison with memcached, simulated fleets, killed Socket.IO clients, all that testssl.sh looks for and hidden pages for an hour (STORE_CASES=20000 SEEDS=200 SOCKETIO_ROUNDS=20 HIDDEN_MINUTES=7)
.PHONY: soak
STORE_CASES ?= 20000
# Of each of some 30 kinds of fault: 6,000 runs in all, in some seven minutes on two cores.
SEEDS ?= 200
SOCKETIO_ROUNDS ?= 20
# Chromium lets a page's timers run once a minute when it has been hidden for five.
HIDDEN_MINUTES ?= 7
soak: OVER_TLS_SOME =
soak: setup loom shuttle faults truth slow-http over-tls client/node_modules/.package-lock.json
	$(call heading,the store compared with memcached: $(STORE_CASES) sequences)
	@STORE_CASES=$(STORE_CASES) cargo test --locked --release --test it store_differential::
	$(call heading,simulated fleets: $(SEEDS) seeds of each kind of fault)
	@SEEDS=$(SEEDS) cargo test --locked --release --test it simulation::
	$(call heading,Socket.IO clients that are killed at any moment: $(SOCKETIO_ROUNDS) rounds)
	@SOCKETIO_ROUNDS=$(SOCKETIO_ROUNDS) cargo test --locked --release --test it socketio::clients::nothing_is_left
	$(call heading,Socket.IO clients that ask while they go over to WebSockets: $(SOCKETIO_ROUNDS) rounds of 15)
	@SOCKETIO_ROUNDS=$(SOCKETIO_ROUNDS) cargo test --locked --release --test it socketio::clients::all_questions
	$(call heading,all that testssl.sh looks for)
	@TESTSSL_ALL=1 cargo test --locked --release --test it tls::scanners::testssl
	$(call heading,pages that are hidden for $(HIDDEN_MINUTES) minutes)
	@cargo build --locked
	@cd client && HIDDEN_MINUTES=$(HIDDEN_MINUTES) PRESENCED_BIN=$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/presenced \
	    node --test --test-name-pattern='hidden for' test/staying.test.js

## slow-http: attack a server with slowhttptest, with slow heads, slow bodies, many ranges and slow reading
.PHONY: slow-http
slow-http:
	$(call heading,slow HTTP)
	@scripts/setup.sh soak
	@scripts/slow_http.py

## bench-build: check that the benches compile
.PHONY: bench-build
# Unoptimized, to reuse the dependencies that `cargo test` has built.
bench-build:
	$(call heading,cargo bench --no-run)
	@cargo bench --locked --no-run --profile dev --bench '*'

## client-check: check the types of the browser client, and that its .d.ts and minified files are up to date
.PHONY: client-check
client-check: client/node_modules/.package-lock.json
	$(call heading,client: types)
	@cd client && npm run --silent check && npm run --silent types:check && npm run --silent build:check

## client-test: test the browser client against a scripted socket, and its npm package
.PHONY: client-test
client-test: client/node_modules/.package-lock.json
	$(call heading,client: unit tests)
	@cd client && npm test --silent

## browser-test: test the client in Chromium and Firefox, and the demo page and the React hook in Chromium, against the debug build of the server
.PHONY: browser-test
# This is the binary that `cargo test` has built.
browser-test: export PRESENCED_BIN ?= $(abspath $(or $(CARGO_TARGET_DIR),target))/debug/presenced
browser-test: client/node_modules/.package-lock.json
	$(call heading,client: browser tests)
	@cd client && npm run --silent test:browser

## screenshot: retake the pictures of the demo page (docs/images/demo*.png)
.PHONY: screenshot
screenshot: client/node_modules/.package-lock.json
	$(call heading,client: screenshot)
	@cargo build --locked
	@PRESENCED_BIN=$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/presenced node client/screenshot.js

# npm writes this file last, so it is newer than the lock file exactly if there is nothing to do.
client/node_modules/.package-lock.json: client/package.json client/package-lock.json
	$(call heading,npm ci)
	@cd client && npm ci --no-audit --no-fund

## doc: build the documentation; warnings are errors
.PHONY: doc
doc:
	$(call heading,cargo doc)
	@RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

## deny: check licences, sources and banned crates of all dependencies
.PHONY: deny
deny:
	$(call heading,cargo deny)
	@if command -v cargo-deny >/dev/null; then \
	    cargo-deny --log-level error --locked check bans licenses sources; \
	else \
	    echo 'skipped: cargo-deny is not installed (cargo install --locked cargo-deny)'; \
	fi

## bench: run criterion's suites, or one of all (SUITE=flush); HTML=1 for its HTML reports
.PHONY: bench
bench: setup
	$(call heading,cargo bench $(SUITE))
	@cargo bench --locked $(if $(HTML),--features bench-html) $(addprefix --bench ,$(SUITE))

## compare: compare presenced with other servers (SESSIONS=18000 DURATION=20s PEERS="epoll ws"), or what TLS costs (TLS=1 ROUNDS=3)
.PHONY: compare
compare: setup
	$(call heading,compare)
	@$(if $(TLS),scripts/compare_tls.py $(addprefix --rounds ,$(ROUNDS)),scripts/compare.py $(if $(PEERS),--peers "$(PEERS)")) \
	    $(addprefix --sessions ,$(SESSIONS)) $(addprefix --duration ,$(DURATION))

## trend: measure sessions without sockets, from a thousand to ten million, and plot them (docs/images/sessions-trend.svg)
.PHONY: trend
trend:
	$(call heading,trend)
	@scripts/setup.sh plots
	@cargo bench --locked --bench sessions -- trend > docs/images/sessions-trend.csv
	@python scripts/plot_sessions.py docs/images/sessions-trend.csv docs/images/sessions-trend.svg

## million: hold a million sessions on this machine, disturb them, and print what they cost (SESSIONS=1000000 EDGES=54 FAULTS=0 JSON=million.json)
.PHONY: million
# Built one by one, as otherwise cargo would unify the features of shared crates.
million: setup
	$(call heading,million)
	@cargo build --release --locked --bin presenced --package presenced
	@cargo build --release --locked --bin presenced-load --package presenced-load
	@scripts/million.py $(addprefix --sessions ,$(SESSIONS)) $(addprefix --edges ,$(EDGES)) \
	    $(if $(filter 0,$(FAULTS)),--no-faults) $(addprefix --json ,$(JSON))

## compare-memcached: compare a flush with other memcached clients (USERS=200000 CLIENTS="bare pymemcache")
.PHONY: compare-memcached
compare-memcached: setup
	$(call heading,compare-memcached)
	@scripts/compare_memcached.py $(addprefix --users ,$(USERS)) $(if $(CLIENTS),--clients "$(CLIENTS)")

## compare-pulls: compare pulls with bare pipelined gets of the same users: rates, latencies, CPU time, fairness (USERS=100000)
.PHONY: compare-pulls
compare-pulls: setup
	$(call heading,compare-pulls)
	@scripts/compare_pulls.py $(addprefix --users ,$(USERS)) $(addprefix --duration ,$(DURATION))

## compare-tokens: measure storms of handshakes by the algorithm of their tokens: CPU time, and what others notice
.PHONY: compare-tokens
compare-tokens: setup
	$(call heading,compare-tokens)
	@scripts/compare_tokens.py $(addprefix --duration ,$(DURATION))

## compare-stores: compare memcached, Redis, PostgreSQL and presenced's store as stores of presence; takes a quarter of an hour (USERS=1000000 STORES="memcached redis")
.PHONY: compare-stores
compare-stores:
	$(call heading,compare-stores)
	@scripts/setup.sh stores
	@scripts/compare_stores.py $(addprefix --users ,$(USERS)) $(addprefix --duration ,$(DURATION)) \
	    $(if $(STORES),--stores "$(STORES)")

## faults: test under load how faults of memcached are survived; takes a quarter of an hour (RESTARTS=1000)
.PHONY: faults
RESTARTS ?= 1000
faults: setup
	$(call heading,faults of memcached, $(RESTARTS) restarts with each command)
	@FAULT_USERS=50000 FAULT_RESTARTS=$(RESTARTS) cargo test --locked --release --test it faults:: -- --test-threads 1 --nocapture
	$(call heading,a slow memcached restarted empty)
	@scripts/slow_memcached.py

## fuzz: run one fuzz target of either folder; needs nightly Rust and cargo-fuzz (TARGET=replies SECONDS=600)
.PHONY: fuzz
TARGET ?= replies
SECONDS ?= 600
# The folder that has this target, and the target's dictionary if it has one.
fuzz_folder = $(patsubst %/fuzz_targets/$(TARGET).rs,%,$(wildcard fuzz/fuzz_targets/$(TARGET).rs protocol/fuzz/fuzz_targets/$(TARGET).rs))
fuzz_dictionary = $(shell sed -n 's/^$(TARGET) = "\(.*\.dict\)"$$/\1/p' $(fuzz_folder)/Cargo.toml)
fuzz: fuzz-tools
	$(if $(fuzz_folder),,$(error there is no fuzz target $(TARGET)))
	$(call heading,cargo fuzz $(TARGET) for $(SECONDS) s)
	@cd $(fuzz_folder) && mkdir -p target/corpus/$(TARGET) && \
	    cargo +nightly fuzz run $(TARGET) target/corpus/$(TARGET) corpus/$(TARGET) -- \
	    $(addprefix -dict=,$(fuzz_dictionary)) -max_len=4096 -max_total_time=$(SECONDS)

## fuzz-all: run each fuzz target of both folders, some at a time, and print a table of what they did (SECONDS=600 JOBS=2 TARGETS="replies pull" TABLE=file)
.PHONY: fuzz-all
JOBS ?= 2
fuzz-all: fuzz-tools
	$(call heading,all fuzz targets for $(SECONDS) s each)
	@scripts/fuzz_all.py --seconds $(SECONDS) --jobs $(JOBS) $(if $(TARGETS),--targets "$(TARGETS)") $(addprefix --table ,$(TABLE))

## fuzz-coverage: print which of our lines the corpus of a fuzz target reaches; needs LLVM's tools as well (TARGET=replies)
.PHONY: fuzz-coverage
fuzz-coverage: fuzz-tools
	$(call heading,coverage of the corpus of $(TARGET))
	@scripts/fuzz_coverage.py $(TARGET)

.PHONY: fuzz-tools
fuzz-tools:
	@cargo +nightly fuzz --version >/dev/null || \
	    { echo 'needs: rustup toolchain install nightly && cargo install --locked cargo-fuzz' >&2; exit 1; }

## settings-page: regenerate docs/settings.md
.PHONY: settings-page
settings-page:
	$(call heading,docs/settings.md)
	@RENEW_DOCS=1 cargo test --locked --quiet --test it settings_page::

## types: regenerate the .d.ts files of client/
.PHONY: types
types: client/node_modules/.package-lock.json
	@cd client && npm run --silent types

## help: print this list
.PHONY: help
help:
	@sed -n 's/^## \([^:]*\): /\1|/p' $(MAKEFILE_LIST) | awk -F '|' '{ printf "  make %-17s %s\n", $$1, $$2 }'
