# Builds, tests, checks, measures and installs. `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=

# .cargo/config.toml names the target, so cargo builds into its directory.
TARGET_DIR ?= $(or $(CARGO_TARGET_DIR),target)
BUILT := $(TARGET_DIR)/x86_64-unknown-linux-gnu
RELEASE ?= $(BUILT)/release
DEBUG ?= $(BUILT)/debug

# The images that all tests share; tests/support/images.rs has the same default.
export MAYFLY_TEST_ARTIFACTS ?= $(CURDIR)/target/test-artifacts
# The firecracker and jailer that all tests share.
export MAYFLY_TEST_FIRECRACKER ?= $(CURDIR)/target/firecracker

# program=package: what this machine needs; scripts/need installs what is missing.
COMPILE := cc=gcc /usr/include/stdlib.h=libc6-dev
RUN := qemu-system-x86_64=qemu-system-x86
IMAGE := mmdebstrap=mmdebstrap mke2fs=e2fsprogs dpkg-deb=dpkg unshare=util-linux newuidmap=uidmap \
	/usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring
# What `make bench` compares mayfly with.
COMPARE := bwrap=bubblewrap crun=crun passt=passt
TEST := jq=jq strace=strace bash=bash zsh=zsh fish=fish ps=procps script=bsdutils vi=vim-tiny less=less git=git xargs=findutils cron=cron \
	python3=python3 umoci=umoci /bin/busybox=busybox-static systemd-analyze=systemd yq=yq zstd=zstd \
	/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1=libfaketime \
	skopeo=skopeo docker-registry=docker-registry openssl=openssl \
	slurmctld=slurmctld slurmd=slurmd sbatch=slurm-client munged=munge

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

# The images that tests boot; debian-kvm is for the KVM host in a VM. Built at the same time, because neither build keeps
# two cores busy.
IMAGES := image-debian-base image-debian-kvm
# The directory of the mayfly that builds them.
BUILDER := $(DEBUG)

.PHONY: $(IMAGES)
$(IMAGES):
	@scripts/with-scratch env MAYFLY_ARTIFACTS_DIR="$$MAYFLY_TEST_ARTIFACTS" \
		$(BUILDER)/mayfly image build $(@:image-%=%)

.PHONY: test
test: ## install what is missing, run every test, real VMs included
	$(SAY) 'packages'
	@scripts/need $(COMPILE) $(RUN) $(IMAGE) $(TEST)
	@scripts/firecracker "$$MAYFLY_TEST_FIRECRACKER"
	# Built in one step: without the tests, some dependencies have fewer features and would be built twice.
	$(SAY) 'programs'
	$(CARGO) test --locked --no-run
	# At the same time: a KVM host has one CPU, and many tests on this machine wait.
	$(SAY) 'tests, those of firecracker in two KVM hosts'
	@$(MAKE) --no-print-directory --jobs=3 --keep-going test-here $(HALVES)

.PHONY: test-here
test-here:
	$(CARGO) test --locked --no-fail-fast
	$(SAY) 'conformance tests again, with VMs that boot instead of starting from a template'
	MAYFLY_TEST_COLD=1 $(CARGO) test --locked --no-fail-fast --test conformance qemu::

TESTS_OF_FIRECRACKER := --test conformance --test campaign
HALVES := firecracker-even firecracker-odd

.PHONY: test-firecracker
test-firecracker: ## run Firecracker's tests in emulated KVM hosts (ten minutes)
	$(SAY) 'packages'
	@scripts/need $(COMPILE) $(RUN) $(IMAGE) jq=jq
	@scripts/firecracker "$$MAYFLY_TEST_FIRECRACKER"
	$(SAY) 'programs'
	$(CARGO) test --locked --no-run $(TESTS_OF_FIRECRACKER)
	$(SAY) 'firecracker, half of the tests in each of two KVM hosts'
	@$(MAKE) --no-print-directory --jobs=2 --keep-going $(HALVES)

# Each line of output begins with the half's name.
.PHONY: $(HALVES)
$(HALVES): $(IMAGES)
	@tests=$$($(CARGO) test --locked --no-run --quiet --message-format=json $(TESTS_OF_FIRECRACKER) | \
		jq -r 'select(.profile.test and .executable) | .executable') && \
		scripts/lab $(DEBUG) scripts/test-firecracker $$tests -- ./test-firecracker $(@:firecracker-%=%) 2>&1 | \
		sed --unbuffered 's/^/$@: /'

# The output of the campaigns. Each prints a line with what it did, and how often.
SOAKED := target/soak.log
SOAKS := soak-campaigns soak-templates soak-lies soak-copies soak-packages soak-firecracker

.PHONY: soak
soak: ## run the crash and load campaigns at full size (an hour and a half)
	$(SAY) 'packages'
	@scripts/need $(COMPILE) $(RUN) $(IMAGE) $(TEST)
	@mkdir -p $(dir $(SOAKED)) && rm -f $(SOAKED)
	@$(MAKE) --no-print-directory --keep-going $(SOAKS)
	$(SAY) 'the figures of docs/security.md'
	@grep -o '[0-9]* [^:]*: 0 broken' $(SOAKED)

.PHONY: $(SOAKS)
soak-campaigns:
	$(SAY) 'campaigns'
	MAYFLY_CAMPAIGN=1.0 $(CARGO) test --locked --no-fail-fast --test campaign -- --nocapture 2>&1 | tee -a $(SOAKED)

soak-templates:
	$(SAY) 'copies of a template that is not new'
	MAYFLY_TEST_LAIN=20 $(CARGO) test --locked --test conformance a_template_that_has_lain

soak-lies:
	$(SAY) 'every lie of an agent to every verb, in emulated machines'
	$(CARGO) build --locked --bins --example hostile-agent
	MAYFLY_TEST_LIES=1 $(CARGO) test --locked --test conformance qemu::no_lie

soak-copies:
	$(SAY) 'copies of 5,000 files and 500 MB'
	MAYFLY_TEST_COPY=1 $(CARGO) test --locked --test conformance trees_go_in

soak-packages:
	$(SAY) 'npm and cargo in a guest, with the mirrors of this machine'
	MAYFLY_TEST_PACKAGES=1 $(CARGO) test --locked --test conformance packages::every

soak-firecracker:
	@MAYFLY_CAMPAIGN=1.0 MAYFLY_TEST_LAIN=20 MAYFLY_TEST_COPIES=20 MAYFLY_TEST_DAMAGED=9 \
		$(MAKE) --no-print-directory test-firecracker 2>&1 | tee -a $(SOAKED)

# How long each target runs.
FUZZ_SECONDS ?= 60
# Those that run; all if empty.
FUZZ_TARGETS ?=

.PHONY: fuzz
fuzz: ## look for bytes that a parser fails on, for a minute each (half an hour)
	$(SAY) 'packages'
	@scripts/need $(COMPILE) c++=g++
	@scripts/fuzz $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# `make bench PLOT=docs/bench.svg` redraws the README's picture.
PLOT ?= target/bench/bench.svg

.PHONY: bench
bench: ## measure ratios of speed to bare VMMs
	$(SAY) 'packages'
	@scripts/need $(COMPILE) $(RUN) $(IMAGE) $(COMPARE) jq=jq
	@scripts/firecracker "$$MAYFLY_TEST_FIRECRACKER"
	$(SAY) 'programs'
	$(CARGO) bench --locked --no-run --bench ratios
	$(SAY) 'ratios'
	$(CARGO) bench --locked --bench ratios -- --plot $(PLOT)
	$(SAY) 'images for a KVM host and its VMs'
	@$(MAKE) --no-print-directory --jobs=2 BUILDER=$(RELEASE) $(IMAGES)
	$(SAY) 'ratios of firecracker, in a VM'
	@ratios=$$($(CARGO) bench --locked --no-run --quiet --message-format=json --bench ratios | \
		jq -r 'select(.target.name == "ratios" and .executable) | .executable') && \
		scripts/lab $(RELEASE) $$ratios -- \
		sh -c './ratios firecracker --parallel 20 --json ratios.json >&2 && cat ratios.json' \
		> target/bench/firecracker.json

# Committed, because the README shows it.
TOUR ?= docs/tour.svg

.PHONY: tour
tour: ## record the README's tour again: a terminal with real VMs
	$(SAY) 'packages'
	@scripts/need $(COMPILE) $(RUN) $(IMAGE) script=bsdutils
	$(SAY) 'programs'
	$(CARGO) build --locked --bins --example film
	$(SAY) 'image'
	@scripts/with-scratch env MAYFLY_ARTIFACTS_DIR="$$MAYFLY_TEST_ARTIFACTS" \
		$(DEBUG)/mayfly image build debian-base
	$(SAY) 'tour'
	mkdir -p target/tour
	MAYFLY_ARTIFACTS_DIR="$$MAYFLY_TEST_ARTIFACTS" scripts/with-scratch \
		scripts/tour $(DEBUG) target/tour
	$(DEBUG)/examples/film target/tour/{seen,times} $(TOUR)

.PHONY: check
check: ## check formatting, lints, documentation and licences of dependencies
	$(SAY) 'formatting'
	$(CARGO) fmt --check
	$(SAY) 'lints'
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(SAY) 'documentation'
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --lib --document-private-items
	$(SAY) 'dependencies'
	@scripts/deny

.PHONY: generate
generate: ## rewrite man pages, completions, README's verbs and docs/json.md from the code
	MAYFLY_BLESS=1 $(CARGO) test --locked --test project generated::
	MAYFLY_BLESS=1 $(CARGO) test --locked --lib output::json_page::

BIN := $(DESTDIR)$(PREFIX)/bin
SHARE := $(DESTDIR)$(PREFIX)/share
MAN := $(SHARE)/man
BASH := $(SHARE)/bash-completion/completions/mayfly
ZSH := $(SHARE)/zsh/site-functions/_mayfly
FISH := $(SHARE)/fish/vendor_completions.d/mayfly.fish
DOC := $(SHARE)/doc/mayfly
# mayfly looks for the agent in its own directory.
PROGRAMS := mayfly mayfly-agent
# The pages, with the pictures and files they link to.
DOCUMENTS := README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE profiles.toml \
	$(wildcard docs/*.md docs/*.svg docs/adr/*.md)

.PHONY: install
install: ## install programs, man pages and completions below DESTDIR and PREFIX
	# Builds only if `make` has not: with sudo, there may be no compiler on PATH.
	[ -x $(RELEASE)/mayfly ] && [ -x $(RELEASE)/mayfly-agent ] || $(MAKE) build
	for program in $(PROGRAMS); do install -D -m 755 $(RELEASE)/$$program $(BIN)/$$program; done
	for page in man/*.[15]; do install -D -m 644 $$page $(MAN)/man$${page##*.}/$${page##*/}; done
	install -D -m 644 completions/mayfly.bash $(BASH)
	install -D -m 644 completions/_mayfly $(ZSH)
	install -D -m 644 completions/mayfly.fish $(FISH)
	for document in $(DOCUMENTS); do install -D -m 644 $$document $(DOC)/$$document; done

.PHONY: uninstall
uninstall: ## delete what install installed, but not state and images
	for program in $(PROGRAMS); do rm -f $(BIN)/$$program; done
	for page in man/*.[15]; do rm -f $(MAN)/man$${page##*.}/$${page##*/}; done
	rm -f $(BASH) $(ZSH) $(FISH)
	for document in $(DOCUMENTS); do rm -f $(DOC)/$$document; done
	for directory in $(DOC)/docs/adr $(DOC)/docs $(DOC); do \
		! [ -d $$directory ] || rmdir --ignore-fail-on-non-empty $$directory; \
	done

.PHONY: clean
clean: ## delete everything that was built, including the tests' images
	$(CARGO) clean
	rm -rf target fuzz/target fuzz/artifacts fuzz/found

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
