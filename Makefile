# Everything a developer and CI do. `make` lists it.

SHELL := /bin/bash
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
# The version is stamped above, so Go need not look for it; that fails where the
# checkout belongs to somebody else. Without -trimpath, so that tests and binaries
# share one cache: Kubernetes is compiled once.
BUILD := go build -buildvcs=false
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Static binaries, and one build cache for all of them.
export CGO_ENABLED := 0

# Packages that link Kubernetes: the race detector would have to compile all of
# it once more. And e2e, whose programs are processes of their own.
HEAVY := nodelet/simcluster nodelet/simcluster/oracle nodelet/cmd/sim nodelet/e2e
LIGHT = $(filter-out $(HEAVY),$(shell go list ./...))

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: sim ## build bin/agent and bin/sim, static
	$(BUILD) -ldflags '$(LDFLAGS)' -o bin/agent ./cmd/agent

.PHONY: sim
sim:
	@test -x bin/sim || echo "building bin/sim; the first time compiles Kubernetes and takes some minutes"
	$(BUILD) -ldflags '$(LDFLAGS)' -o bin/sim ./cmd/sim

# The build for virtual time: a Go runtime whose clock jumps when all is idle, with
# the changes of hack/faketime, and a linker that lets simcluster/faketime.go reach
# into other packages. docs/decisions/0005-virtual-time.md
.PHONY: virtual
virtual: sim ## build bin/sim-virtual, for scenarios in virtual time
	@test -x bin/sim-virtual || echo "building bin/sim-virtual; the first time compiles Kubernetes once more"
	@go run -buildvcs=false ./hack/faketime bin/.faketime
	$(BUILD) -tags faketime -overlay bin/.faketime/overlay.json -ldflags '$(LDFLAGS) -checklinkname=0' -o bin/sim-virtual ./cmd/sim

# kubectl has a module of its own, for it needs more modules than the project.
bin/kubectl:
	cd hack/kubectl && version=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes) && \
		$(BUILD) -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$version" \
			-o ../../bin/kubectl k8s.io/kubernetes/cmd/kubectl

.PHONY: kubectl
kubectl: ## build a stock kubectl into bin/ unless there is one on the PATH
	@command -v kubectl >/dev/null || $(MAKE) bin/kubectl

.PHONY: demo
demo: sim ## play the demo scenario on an embedded cluster of 100 nodes, in real time
	@bin/sim run --time real scenarios/demo.yaml

.PHONY: node
node: build kubectl ## run a cluster of one real node on Docker Engine, below /tmp/nodelet-node
	PATH="$(CURDIR)/bin:$$PATH" hack/local-cluster /tmp/nodelet-node

.PHONY: e2e
e2e: kubectl ## test the agent on Docker Engine and a real control plane
	PATH="$(CURDIR)/bin:$$PATH" NODELET_REQUIRE_DOCKER=1 go test -timeout 20m ./agent/docker ./e2e

.PHONY: scenarios
scenarios: virtual ## play every scenario of the catalogue, in virtual time
	bin/sim run scenarios

.PHONY: day
day: virtual ## play a day of a cluster, in virtual time; it takes some minutes
	bin/sim run scenarios/long

.PHONY: test
test: kubectl virtual ## run all tests
	PATH="$(CURDIR)/bin:$$PATH" NODELET_REQUIRE_VIRTUAL=1 go test -timeout 20m ./...

.PHONY: race
race: ## run the tests of all packages without Kubernetes under the race detector
	CGO_ENABLED=1 go test -race $(LIGHT)

.PHONY: check
check: format vet staticcheck rules ## check format, vet, staticcheck and the rules of the house

.PHONY: format
format:
	@files=$$(gofmt -l .); test -z "$$files" || { echo "make fmt would change:"; echo "$$files"; exit 1; }

.PHONY: vet
vet:
	go vet ./...

.PHONY: staticcheck
staticcheck:
	go run $(STATICCHECK) ./...

.PHONY: rules
rules:
	go test ./internal/rules

.PHONY: bench
bench: sim ## run the benchmarks and measure 500 nodes with 5,000 pods
	go test -run '^$$' -bench . -benchmem $(LIGHT)
	bin/sim bench --nodes 500 --pods 5000

FUZZTIME := 30s

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (30s)
	@set -e; grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z]*\).*/\1/p' "$$file"); do \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")"; \
		done; \
	done

.PHONY: fmt
fmt: ## format the code
	gofmt -w .

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
