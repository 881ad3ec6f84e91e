# Needs python3.11 or newer and make; no root, no cluster, no GPU. Everything else goes into virtual environments
# beside this file, each made when a target first needs it and again when its lock changes.

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ENVIRONMENT = $(or $(PYTHON),$(error Python 3.11 or newer is not on the PATH; name one with `make PYTHON=/path/to/python3`)) \
	requirements/environment.py

.DEFAULT_GOAL := help
.PHONY: help demo cluster-demo cluster-healing test test-quick test-cluster lint bench results .venv .venv-training .venv-bench .venv-engine prometheus resource kubernetes cluster-packages images faults test-faults fuzz soak

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: .venv-training prometheus ## train a policy for examples/opt-paper.yaml and replay a real burst under it and its rivals
	.venv-training/bin/bes demo --out build/demo

cluster-demo: .venv kubernetes cluster-packages ## a cluster on this machine, the chart, a training Job, a burst through its policy; needs root
	.venv/bin/python -m bes_lab.cluster.demo

cluster-healing: .venv kubernetes cluster-packages ## break a service on a cluster in every way, under traffic, and count what clients see; needs root
	.venv/bin/python -m bes_lab.cluster.healing

test: .venv-training .venv-engine prometheus ## lint and every test
	$(call lint,.venv-training)
	.venv-training/bin/python -m pytest

test-quick: .venv ## the tests that need no torch and little time
	.venv/bin/python -m pytest -m "not slow and not torch and not control_plane and not cluster"

# Connections to an API server that a test has killed or struck may still be closing when their event loop ends.
test-cluster: .venv kubernetes ## tests on a real API server; as root also on a cluster made for them, with the images
	@[ "$$(id -u)" != 0 ] || $(or $(PYTHON),python3) requirements/cluster_packages.py
	.venv/bin/python -m pytest -m "control_plane or cluster" -W ignore::pytest.PytestUnraisableExceptionWarning

lint: .venv ## style, types, arrows between the rooms, guards of the house
	$(call lint,.venv)

bench: .venv-bench ## measure router, decision, simulator and learner; records go to docs/results
	.venv-bench/bin/bes bench all

faults: .venv prometheus ## break a service under load in every way, then 5,000 hostile requests and answers; records
	.venv/bin/python -m bes_lab.faults

FAULTS ?=
test-faults: .venv kubernetes ## every API call of the operator disturbed in turn, and the operator killed after each; hours; records
	.venv/bin/python -m bes_lab.cluster.faults $(FAULTS)

FUZZ_SECONDS ?= 600
fuzz: .venv ## fuzz the router's parsers, guided by coverage, for FUZZ_SECONDS (600); records
	.venv/bin/python -m bes_lab.fuzz --seconds $(FUZZ_SECONDS)

SOAK_MINUTES ?= 20
soak: .venv prometheus ## one router under load with a fault every 10 s for SOAK_MINUTES (20); records
	.venv/bin/python -m bes_lab.soak --minutes $(SOAK_MINUTES)

results: .venv ## every recorded claim as one table, what falls short on top; pages that quote them are rewritten
	.venv/bin/python -m bes_lab.pages
	.venv/bin/python -m bes_lab.results

resource: .venv ## rewrite the resource's schema and page from its types
	@mkdir -p build
	.venv/bin/python -m bes_api.crd > build/crd.yaml
	.venv/bin/python -m bes_api.resource_page > build/resource.md
	cp build/crd.yaml crds/besteffortservices.yaml
	cp build/crd.yaml charts/best-effort-serving/files/besteffortservices.yaml
	cp build/resource.md docs/resource.md

prometheus: ## fetch a Prometheus into the user's cache, without root, unless there is one
	@$(or $(PYTHON),python3) requirements/prometheus.py

cluster-packages: ## install containerd, buildah and what else a native cluster needs of Debian, unless there; needs root
	@$(or $(PYTHON),python3) requirements/cluster_packages.py

kubernetes: ## build Kubernetes, etcd, CoreDNS, Helm and kubeconform into the user's cache, unless they are there; needs Go
	@$(or $(PYTHON),python3) requirements/kubernetes.py > /dev/null

images: .venv ## build the project's images into the cache, without Docker; needs root and cluster-packages
	.venv/bin/python -m bes_lab.cluster.images

define lint
$(1)/bin/ruff check .
$(1)/bin/ruff format --check .
$(1)/bin/mypy
$(1)/bin/lint-imports
$(1)/bin/python -m pytest e2e/tests/test_house.py
endef

.venv:
	@$(ENVIRONMENT) .venv requirements/dev.txt

.venv-training:
	@$(ENVIRONMENT) .venv-training requirements/training.txt

# Sees the packages of .venv-training instead of holding torch a second time.
.venv-bench: .venv-training
	@$(ENVIRONMENT) .venv-bench requirements/bench.txt --on .venv-training

# The real engine's: transformers, on the torch of .venv-training.
.venv-engine: .venv-training
	@$(ENVIRONMENT) .venv-engine requirements/engine.txt --on .venv-training
