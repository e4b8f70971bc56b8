# The short way to everything. `make help` lists it. No target needs root, except `setup` where something is missing.
.DEFAULT_GOAL := help
.PHONY: help setup build test demo lint size memory block bench conformance conformance-list docs man clean \
    setup-cross armv7 aarch64 x86_64 dist test-armv7 test-aarch64

CARGO ?= cargo
KIT   ?= ../shared/conformance
BIN   := target/release/thimble

help: ## this list
	@sed -n 's/^\([a-z0-9_ -]*\):[^#]*## /  \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-24s %s\n", substr($$1, 3), $$2 }'

setup: ## install what is missing (Debian, as root or with sudo)
	@bash .ci/setup

build: ## the release binary, target/release/thimble
	@bash .ci/setup --check build
	$(CARGO) build --release --locked $$(bash .ci/icf)

setup-cross: ## install what the static programs need (Debian, as root or with sudo)
	@bash .ci/setup build cross-armv7 cross-aarch64 cross-x86_64 cross-std cross-test

armv7 aarch64 x86_64: ## a static program for boards, target/dist/thimble-VERSION-ARCH, against its budget
	@bash .ci/cross $@

dist: armv7 aarch64 x86_64 ## all three
	@ls -l target/dist

test-armv7 test-aarch64: ## tests of the static program, in QEMU
	@bash .ci/cross-test $(@:test-%=%)

test: ## all tests; needs nothing but this repository
	@bash .ci/setup --check build test
	$(CARGO) test --workspace --locked

demo: ## three updates of a simulated device: one good, one that is undone, one that waits for a person
	@bash .ci/setup --check build test
	$(CARGO) build --locked --workspace --bins
	target/debug/demo target/debug/thimble

lint: ## format, clippy, documentation, licences, packaging
	@bash .ci/setup --check build lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	bash .ci/check-licences
	bash .ci/check-packaging

size: build ## the size of the release binary, against its budget
	@bash .ci/check-size $(BIN)

memory: build ## peak memory of the release binary while it installs 64 MiB and 1 GiB, against its budget
	THIMBLE_BIN=$(abspath $(BIN)) $(CARGO) test --locked --test e2e_memory

block: ## the promises about block devices, on loop devices; needs root
	$(CARGO) test --locked --test boot_block -- --ignored

bench: build ## CPU against a pipeline with the reference libraries, throughput, peak memory; BENCH="--check" fails above bounds
	@bash .ci/setup --check build bench
	@mkdir -p target/bench
	$(CC) -O2 -Wall -Wextra -Werror -o target/bench/reference benches/reference.c -lz -llzma -lzstd -lcrypto
	$(CARGO) run --locked --package thimble-testkit --bin bench -- $(BIN) --keep target/bench $(BENCH)

conformance: build ## the conformance kit, KIT=DIRECTORY, daemon and check
	@bash .ci/setup --check conformance
	python3 .ci/conformance --kit $(KIT) --bin $(BIN)

conformance-list: build ## the same; rewrites tests/conformance-expected-failures.txt
	@bash .ci/setup --check conformance
	python3 .ci/conformance --kit $(KIT) --bin $(BIN) --write

docs: ## the pictures in docs/, after a change of the state machine
	@bash .ci/setup --check docs
	dot -Tsvg docs/state-machine.dot -o docs/state-machine.svg

man: ## read the manual page
	man -l packaging/man/thimble.8

clean: ## remove what was built
	$(CARGO) clean
