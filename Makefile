# Everything around the code. `make help` lists what there is.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=

# .cargo/config.toml names the target, so that is where cargo puts what it builds.
TARGET_DIR ?= $(or $(CARGO_TARGET_DIR),target)
BUILT := $(TARGET_DIR)/x86_64-unknown-linux-gnu
RELEASE ?= $(BUILT)/release
DEBUG ?= $(BUILT)/debug

# Tests share one set of images; tests/support/images.rs looks in the same place.
export MAYFLY_TEST_ARTIFACTS ?= $(CURDIR)/target/test-artifacts
# And one firecracker, with its jailer.
export MAYFLY_TEST_FIRECRACKER ?= $(CURDIR)/target/firecracker

# program=package: what this machine must have; scripts/need installs what it lacks.
COMPILE := cc=gcc /usr/include/stdlib.h=libc6-dev
RUN := qemu-system-x86_64=qemu-system-x86
IMAGE := mmdebstrap=mmdebstrap mke2fs=e2fsprogs dpkg-deb=dpkg unshare=util-linux newuidmap=uidmap \
	/usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring
# What `make bench` compares with.
COMPARE := bwrap=bubblewrap crun=crun
TEST := jq=jq strace=strace bash=bash zsh=zsh fish=fish ps=procps script=bsdutils vi=vim-tiny less=less git=git xargs=findutils cron=cron \
	umoci=umoci /bin/busybox=busybox-static \
	/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1=libfaketime

SAY := @printf '\n== %s\n'

.PHONY: build
build: ## build both programs for use (the default)
	$(CARGO) build --release --locked

.PHONY: demo
demo: ## install what is missing, build everything, run a command in a VM
	$(SAY) 'packages'
	@scripts/need $(COMPILE) $(RUN) $(IMAGE)
	$(SAY) 'mayfly'
	$(CARGO) build --release --locked
	@scripts/demo $(RELEASE)

# What tests boot, a KVM host in a VM among it. Made with --jobs=2: neither keeps two cores busy.
IMAGES := image-debian-base image-debian-kvm
# Where the mayfly is that builds them.
BUILDER := $(DEBUG)

.PHONY: $(IMAGES)
$(IMAGES):
	@scripts/with-scratch env MAYFLY_ARTIFACTS_DIR="$$MAYFLY_TEST_ARTIFACTS" \
		$(BUILDER)/mayfly image build $(@:image-%=%)

.PHONY: test
test: ## install what is missing, run every test, real VMs included
	$(SAY) 'packages'
	@scripts/need $(COMPILE) $(RUN) $(IMAGE) $(TEST)
	# All at once: without the tests some dependencies have fewer features, and would be built twice.
	$(SAY) 'programs'
	$(CARGO) test --locked --no-run
	$(SAY) 'the images that tests boot'
	@$(MAKE) --no-print-directory --jobs=2 $(IMAGES)
	$(SAY) 'tests'
	$(CARGO) test --locked --no-fail-fast
	$(SAY) 'what a VM must do, once more for VMs that boot instead of starting from a template'
	MAYFLY_TEST_COLD=1 $(CARGO) test --locked --no-fail-fast --test conformance qemu::
	@$(MAKE) --no-print-directory test-firecracker

TESTS_OF_FIRECRACKER := --test conformance --test campaign

.PHONY: test-firecracker
test-firecracker: ## run Firecracker's tests, in VMs that are KVM hosts
	$(SAY) 'packages'
	@scripts/need $(COMPILE) $(RUN) $(IMAGE) jq=jq
	@scripts/firecracker "$$MAYFLY_TEST_FIRECRACKER"
	$(SAY) 'programs'
	$(CARGO) test --locked --no-run $(TESTS_OF_FIRECRACKER)
	$(SAY) 'the images that the VM and the VMs in it boot'
	@$(MAKE) --no-print-directory --jobs=2 $(IMAGES)
	$(SAY) 'firecracker, half of it in each of two VMs'
	@$(MAKE) --no-print-directory --jobs=2 --keep-going firecracker-even firecracker-odd

.PHONY: firecracker-even firecracker-odd
firecracker-even firecracker-odd:
	@tests=$$($(CARGO) test --locked --no-run --quiet --message-format=json $(TESTS_OF_FIRECRACKER) | \
		jq -r 'select(.profile.test and .executable) | .executable') && \
		scripts/lab $(DEBUG) scripts/test-firecracker $$tests -- ./test-firecracker $(@:firecracker-%=%)

.PHONY: soak
soak: ## crash and load campaigns at full size (minutes)
	$(SAY) 'packages'
	@scripts/need $(COMPILE) $(RUN) $(IMAGE) $(TEST)
	$(SAY) 'campaigns'
	MAYFLY_CAMPAIGN=1.0 $(CARGO) test --locked --no-fail-fast --test campaign -- --nocapture
	$(SAY) 'copies of a template that has lain for a while'
	MAYFLY_TEST_LAIN=20 $(CARGO) test --locked --test conformance a_template_that_has_lain
	$(SAY) 'copies of 5,000 files and 500 MB'
	MAYFLY_TEST_COPY=1 $(CARGO) test --locked --test conformance trees_go_in
	@MAYFLY_CAMPAIGN=1.0 MAYFLY_TEST_LAIN=20 MAYFLY_TEST_COPIES=20 MAYFLY_TEST_DAMAGED=9 \
		$(MAKE) --no-print-directory test-firecracker

# `make bench PLOT=docs/bench.svg` also draws the README's picture anew.
PLOT ?= target/bench/bench.svg

.PHONY: bench
bench: ## measure speed against bare VMMs, in ratios
	$(SAY) 'packages'
	@scripts/need $(COMPILE) $(RUN) $(IMAGE) $(COMPARE) jq=jq
	@scripts/firecracker "$$MAYFLY_TEST_FIRECRACKER"
	$(SAY) 'programs'
	$(CARGO) bench --locked --no-run --bench ratios
	$(SAY) 'ratios'
	$(CARGO) bench --locked --bench ratios -- --plot $(PLOT)
	$(SAY) 'the images that a KVM host and the VMs in it boot'
	@$(MAKE) --no-print-directory --jobs=2 BUILDER=$(RELEASE) $(IMAGES)
	$(SAY) 'ratios of firecracker, in a VM'
	@ratios=$$($(CARGO) bench --locked --no-run --quiet --message-format=json --bench ratios | \
		jq -r 'select(.target.name == "ratios" and .executable) | .executable') && \
		scripts/lab $(RELEASE) $$ratios -- \
		sh -c './ratios firecracker --crowd 20 --json ratios.json >&2 && cat ratios.json' \
		> target/bench/firecracker.json

# Committed, as the README shows it.
TOUR ?= docs/tour.svg

.PHONY: tour
tour: ## record the README's tour anew: a terminal, and real VMs
	$(SAY) 'packages'
	@scripts/need $(COMPILE) $(RUN) $(IMAGE) script=bsdutils
	$(SAY) 'programs'
	$(CARGO) build --locked --bins --example film
	$(SAY) 'the image that is shown'
	@scripts/with-scratch env MAYFLY_ARTIFACTS_DIR="$$MAYFLY_TEST_ARTIFACTS" \
		$(DEBUG)/mayfly image build debian-base
	$(SAY) 'tour'
	mkdir -p target/tour
	MAYFLY_ARTIFACTS_DIR="$$MAYFLY_TEST_ARTIFACTS" scripts/with-scratch \
		scripts/tour $(DEBUG) target/tour
	$(DEBUG)/examples/film target/tour/{seen,times} $(TOUR)

.PHONY: check
check: ## formatting, lints, documentation, licences of dependencies
	$(SAY) 'formatting'
	$(CARGO) fmt --check
	$(SAY) 'lints'
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(SAY) 'documentation'
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --lib --document-private-items
	$(SAY) 'dependencies'
	@scripts/deny

.PHONY: generate
generate: ## write man pages and completions anew from the command line's definition
	MAYFLY_BLESS=1 $(CARGO) test --locked --test project generated::

BIN := $(DESTDIR)$(PREFIX)/bin
SHARE := $(DESTDIR)$(PREFIX)/share
MAN := $(SHARE)/man
BASH := $(SHARE)/bash-completion/completions/mayfly
ZSH := $(SHARE)/zsh/site-functions/_mayfly
FISH := $(SHARE)/fish/vendor_completions.d/mayfly.fish
DOC := $(SHARE)/doc/mayfly
# The agent is looked for beside mayfly: the two belong into one directory.
PROGRAMS := mayfly mayfly-agent
# With what they link to and show.
DOCUMENTS := README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE profiles.toml \
	$(wildcard docs/*.md docs/*.svg docs/adr/*.md)

.PHONY: install
install: ## install programs, man pages and completions below DESTDIR and PREFIX
	# Built beforehand by whoever has the compiler, so that `sudo make install` needs none.
	[ -x $(RELEASE)/mayfly ] && [ -x $(RELEASE)/mayfly-agent ] || $(MAKE) build
	for program in $(PROGRAMS); do install -D -m 755 $(RELEASE)/$$program $(BIN)/$$program; done
	for page in man/*.[15]; do install -D -m 644 $$page $(MAN)/man$${page##*.}/$${page##*/}; done
	install -D -m 644 completions/mayfly.bash $(BASH)
	install -D -m 644 completions/_mayfly $(ZSH)
	install -D -m 644 completions/mayfly.fish $(FISH)
	for document in $(DOCUMENTS); do install -D -m 644 $$document $(DOC)/$$document; done

.PHONY: uninstall
uninstall: ## delete what install installed; state and images stay
	for program in $(PROGRAMS); do rm -f $(BIN)/$$program; done
	for page in man/*.[15]; do rm -f $(MAN)/man$${page##*.}/$${page##*/}; done
	rm -f $(BASH) $(ZSH) $(FISH)
	for document in $(DOCUMENTS); do rm -f $(DOC)/$$document; done
	for directory in $(DOC)/docs/adr $(DOC)/docs $(DOC); do \
		! [ -d $$directory ] || rmdir --ignore-fail-on-non-empty $$directory; \
	done

.PHONY: clean
clean: ## delete everything that was built here, the tests' images included
	$(CARGO) clean
	rm -rf target

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
