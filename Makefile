# The short way to everything. `make help` lists it. No target needs root, except `setup` where something is missing.
.DEFAULT_GOAL := help
.PHONY: help setup build dbus test demo lint features size memory footprint fuzz fuzz-minimise block bench conformance conformance-list docs man clean \
    setup-cross armv7 aarch64 x86_64 minimal-armv7 minimal-aarch64 minimal-x86_64 dist deb test-deb test-armv7 \
    test-aarch64 reproducible feature-sizes setup-qemu qemu qemu-all qemu-cuts qemu-shell

CARGO ?= cargo
KIT   ?= ../shared/conformance
MINUTES ?= 1
RUNS    ?= 1
COMMA := ,
SPACE := $(subst ,, )
BIN   := target/release/thimble
STATIC = target/dist/thimble-$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)-x86_64
QEMU_BOARDS = $(notdir $(patsubst %/,%,$(dir $(wildcard boards/*/qemu.conf))))

help: ## this list
	@sed -n 's/^\([a-z0-9_ -]*\):[^#]*## /  \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-24s %s\n", substr($$1, 3), $$2 }'

setup: ## install what is missing (Debian, as root or with sudo)
	@bash .ci/setup

build: ## the release binary, target/release/thimble
	@bash .ci/setup --check build
	$(CARGO) build --release --locked --package thimble $$(bash .ci/icf)

dbus: ## the program for D-Bus beside the agent, target/release/thimble-dbus; needs libdbus
	@bash .ci/setup --check build dbus
	$(CARGO) build --release --locked --package thimble-dbus

setup-cross: ## install what the static programs need (Debian, as root or with sudo)
	@bash .ci/setup build cross-armv7 cross-aarch64 cross-x86_64 cross-std cross-test deb

minimal-armv7 minimal-aarch64 minimal-x86_64: ## the smallest useful one, target/dist/thimble-VERSION-ARCH-minimal
	@bash .ci/cross $(@:minimal-%=%)-minimal

deb: dist ## Debian packages of them: armhf, arm64, amd64, in target/dist
	@for arch in armv7 aarch64 x86_64; do bash .ci/deb $$arch || exit 1; done

test-deb: dist ## installs, runs, upgrades, removes and purges them in a root of their own (as root)
	@for arch in armv7 aarch64 x86_64; do bash .ci/deb-test $$arch || exit 1; done

armv7 aarch64 x86_64: ## a static program for boards, target/dist/thimble-VERSION-ARCH, against its budget
	@bash .ci/cross $@

dist: armv7 aarch64 x86_64 ## all three
	@ls -l target/dist

feature-sizes: ## what each feature costs on armv7, as a table; half an hour
	@bash .ci/feature-sizes armv7

reproducible: ## the static program for armv7 once more, in another directory: the same bytes
	@bash .ci/reproducible armv7

test-armv7 test-aarch64: ## tests of the static program, in QEMU: unit tests, all scenarios, time
	@bash .ci/cross-test $(@:test-%=%)

test: ## all tests; needs nothing but this repository
	@bash .ci/setup --check build test
	$(CARGO) test --workspace --locked

setup-qemu: setup-cross ## install what boards in QEMU need
	@bash .ci/setup qemu

qemu: ## a board in QEMU, BOARD=NAME; SCENARIO=NAME or a to h; CUT=N; IMAGE=CARD MARKER=TEXT (qemu/README.md)
	@bash .ci/setup --check qemu
	@RUNS=$(RUNS) MACHINES=$(MACHINES) bash .ci/qemu $(if $(IMAGE),own,$(if $(CUT),cut,run)) $(or $(BOARD),$(error BOARD=NAME, one of: $(QEMU_BOARDS))) \
	    $(if $(IMAGE),"$(IMAGE)" "$(MARKER)" $(ARTIFACT) $(PORT) $(DEVICE_TYPE),$(or $(CUT),$(SCENARIO)))

qemu-cuts: ## an update of BOARD=NAME cut at 200 places between and inside its writes; 20 of them booted
	@bash .ci/setup --check qemu
	@bash .ci/qemu cuts $(BOARD)

qemu-all: ## all scenarios of all boards in QEMU, of BOARDS="A B" only; RUNS=3 times in a row; MACHINES=2 at a time; long
	@bash .ci/setup --check qemu
	@RUNS=$(RUNS) MACHINES=$(MACHINES) bash .ci/qemu run $(or $(subst $(SPACE),$(COMMA),$(strip $(BOARDS))),all) $(SCENARIO)

qemu-shell: ## a console of a board in QEMU, BOARD=NAME
	@bash .ci/setup --check qemu
	@bash .ci/qemu shell $(BOARD)

demo: ## three updates of a simulated device: one good, one that is undone, one that waits for a person
	@bash .ci/setup --check build test
	$(CARGO) build --locked --package thimble --package thimble-testkit --bins
	target/debug/demo target/debug/thimble

lint: ## format, clippy, documentation, licences, packaging
	@bash .ci/setup --check build lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	bash .ci/check-licences
	bash .ci/check-packaging

features: ## builds without one feature or with only one: no warnings, and what is missing is refused by name
	@bash .ci/setup --check build test lint
	@bash .ci/features

size: build ## the size of the release binary, against its budget
	@bash .ci/check-size $(BIN)

memory: build ## peak memory of the release binary, against its budgets: installing 64 MiB and 1 GiB; hostile Artifacts
	THIMBLE_BIN=$(abspath $(BIN)) $(CARGO) test --locked --test e2e_memory
	HOSTILE_BIN=$(abspath $(BIN)) $(CARGO) test --locked --test hostile program:: -- --nocapture

footprint: x86_64 ## polls, memory, start and gaps of the static program, against their budgets
	@bash .ci/setup --check test
	THIMBLE_BIN=$(abspath $(STATIC)) $(CARGO) test --locked --test e2e_memory --test e2e_poll --test e2e_start \
	    --test e2e_script_gap -- --nocapture --test-threads 1

fuzz: ## fuzz targets, MINUTES=n for each (1), TARGET=name for one: docs/fuzzing.md
	@bash .ci/fuzz $(MINUTES) $(TARGET)

fuzz-minimise: ## new inputs into the committed fuzz corpus, useless ones out of it
	@bash .ci/fuzz --minimise $(TARGET)

block: ## the promises about block devices, on loop devices; needs root
	$(CARGO) test --locked --test boot_block -- --ignored

bench: x86_64 ## CPU against a pipeline with the reference libraries, throughput, peak memory; BENCH="--check" fails above bounds
	@bash .ci/setup --check build bench
	@mkdir -p target/bench
	$(CC) -O2 -Wall -Wextra -Werror -o target/bench/reference benches/reference.c -lz -llzma -lzstd -lcrypto
	$(CARGO) run --locked --package thimble-testkit --bin bench -- $(STATIC) --keep target/bench $(BENCH)

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
