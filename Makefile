# `make help` tells what there is. Every target sets up what it needs; what is there already costs nothing.
SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Node 24 and the tools come with `npm ci`, so that any host's own node (20, say) does for the first step.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

.PHONY: help up demo test test-fast check fix bench fuzz proto setup viewer image servers cluster cluster-k8s scenarios-k8s peak-k8s

help: ## this list (at once)
	@echo 'Gantry: an open PACS. `make demo` is the place to start.'
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  Settings are read from gantry.yaml and GANTRY_*; data lies in ./data (GANTRY_DATA_DIR).'
	@echo '  Commands for a running server: npx gantry --help'

demo: setup viewer ## set up, start, send the sample studies, say where to look; Ctrl-C ends it (cold 2-5 min, warm 10 s)
	@exec node tools/demo/demo.ts

up: setup viewer ## start Gantry in the foreground; Ctrl-C or TERM drains it (cold 2-5 min, warm 5 s)
	@exec node services/main.ts all

test: setup viewer ## every test, against DCMTK, pynetdicom, Chromium, NATS, S3, Elasticsearch too (warm 16 min, cold twice that; installs what is missing and says what)
	@tools/setup/peers.sh test
	@tools/setup/servers.sh
	@exec tools/setup/run-tests.sh all

test-fast: setup ## the tests that need nobody else's program (4 min)
	@exec tools/setup/run-tests.sh fast

check: setup ## types, lint, protos, generated code, house rules (30 s)
	@exec node tools/check/main.ts

fix: setup ## let biome mend formatting and lint, and write the table of settings anew (5 s)
	@node services/shared/platform/settings-document.run.ts
	@exec biome check --write

servers: setup ## NATS, S3 and Elasticsearch for tests, made from the package registries (cold 8 min, warm nothing)
	@exec tools/setup/servers.sh

bench: setup ## benchmarks with peers in the same run, into tools/bench/RESULTS.md (30 min or more)
	@tools/setup/peers.sh bench
	@exec node tools/bench/bench.ts $(ARGS)

fuzz: setup ## fuzz the parsers, MINUTES=10 each (TARGET=name for one; the corpus grows under tools/fuzz)
	@exec node tools/fuzz/fuzz.ts --minutes $(or $(MINUTES),10) $(TARGET)

cluster: setup viewer servers ## real NATS, S3, Elasticsearch and every role, two processes each, as `make up` (cold 10 min, warm 8 s)
	@exec node tools/cluster/main.ts

cluster-k8s: setup viewer servers ## a real Kubernetes on this machine with the chart on it, or KUBECONFIG's; root (cold 10-25 min, warm 90 s; Ctrl-C removes it in 15 s)
	@exec node tools/kube/main.ts

scenarios-k8s: setup viewer servers ## on it: store, find, move, get, STOW, QIDO, WADO, delete, restore, commit, asked from outside (4 min)
	@exec node tools/kube/scenarios.ts

peak-k8s: setup viewer servers ## on it: load that scales ingest out and in; pods killed, rolled to another image and back, out of memory, evicted; a node without power (20 min; WHAT=peak,signals,faults,roll,memory,evict,power)
	@exec node tools/kube/peak.ts $(or $(WHAT),all)

image: setup viewer ## the container image as one file for docker load and ctr images import, nothing pulled (cold 2 min, warm 5 s)
	@exec node tools/image/main.ts $(ARGS)

proto: setup ## after a change under proto/: lint, refuse breaking changes, generate the code (2 s)
	@exec node tools/check/proto.ts --write

setup: # Node 24 and the npm packages (cold 1 min, warm nothing)
	@tools/setup/setup.sh

viewer: # the OHIF viewer, once, into the cache (50 MB)
	@tools/setup/viewer.sh
