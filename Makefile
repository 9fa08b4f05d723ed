# `make run` and `make test` are all one needs; `make help` lists the rest.

# What the server is started with: make run ARGS="--data-dir /tmp/x --log-format console"
ARGS ?=
# What the benchmark is started with: make bench ARGS="--quick --only put,get"
CARGO ?= cargo

.PHONY: help prepare build run cluster test lint doc bench chaos fuzz install clean

help: ## List these commands.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

prepare: ## Install what the build needs besides Rust, where it is missing.
	@scripts/prepare

build: prepare ## Build the server and the client, optimised, into target/release.
	ETCD_RS_GIT_SHA="$$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" \
	$(CARGO) build --release --locked --package etcd-rs-server --package etcd-rs-ctl

run: build ## Run the server; pass flags with ARGS="...".
	exec target/release/etcd-rs $(ARGS)

cluster: build ## Run three members on this host until Ctrl-C; see contrib/local-cluster.
	exec contrib/local-cluster $(ARGS)

test: prepare ## Run every test, comparing with a real etcd that is fetched if need be.
	@ETCD_REAL="$$(scripts/real-etcd)" && export ETCD_REAL && echo "comparing with $$ETCD_REAL" && \
	$(CARGO) build --locked --workspace --bins && \
	ETCD_RS_BIN=target/debug $(CARGO) test --locked --workspace --no-fail-fast

lint: prepare ## Check formatting, lints, generated code and house rules.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) xtask codegen --check
	$(CARGO) xtask tidy

doc: prepare ## Build the documentation, warnings denied, into target/doc.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

bench: build ## Measure against a real etcd; plots and tables go to target/bench.
	$(CARGO) build --release --locked --package etcd-rs-bench
	@ETCD_REAL="$$(scripts/real-etcd)" && export ETCD_REAL && exec target/release/etcd-rs-bench $(ARGS)

chaos: prepare ## Harm clusters under load: SECONDS=120 SEED=7 ARGS="--members 5"; a failing seed repeats.
	$(CARGO) build --locked --package etcd-rs-server --package etcd-rs-ctl --package etcd-rs-e2e --bins
	ETCD_RS_BIN=target/debug target/debug/etcd-rs-chaos --seconds $(or $(SECONDS),120) $(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: prepare ## Fuzz the decoders: SECONDS=60 each, or TARGETS="a b" alone.
	scripts/fuzz $(or $(SECONDS),60) $(TARGETS)

install: build ## Install etcd-rs and etcd-rs-ctl into $(PREFIX)/bin (PREFIX=/usr/local).
	install -D -m 755 target/release/etcd-rs target/release/etcd-rs-ctl -t "$(DESTDIR)$(or $(PREFIX),/usr/local)/bin"

clean: ## Remove everything that was built.
	$(CARGO) clean
