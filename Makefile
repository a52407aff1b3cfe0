# Everything a developer and CI do. `make help` lists it.

SHELL := /bin/bash
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Static binaries, and one build cache for all of them.
export CGO_ENABLED := 0

# Packages whose tests run the real control plane, or link it; the race
# detector would compile Kubernetes once more for them.
HEAVY := nodelet/simcluster nodelet/cmd/sim nodelet/scenarios
LIGHT = $(filter-out $(HEAVY),$(shell go list ./...))

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/agent and bin/sim, static
	go build -ldflags '$(LDFLAGS)' -o bin/agent ./cmd/agent
	go build -ldflags '$(LDFLAGS)' -o bin/sim ./cmd/sim

bin/kubectl:
	go build -ldflags '-s -w' -o bin/kubectl k8s.io/kubernetes/cmd/kubectl

.PHONY: kubectl
kubectl: ## build a stock kubectl into bin/ unless there is one on the PATH
	@command -v kubectl >/dev/null || $(MAKE) bin/kubectl

.PHONY: demo
demo: ## play the demo scenario on an embedded cluster of 100 nodes
	@go build -ldflags '$(LDFLAGS)' -o bin/sim ./cmd/sim
	@bin/sim run scenarios/demo.yaml

.PHONY: test
test: kubectl ## run all tests
	PATH="$(CURDIR)/bin:$$PATH" go test -timeout 20m ./...

.PHONY: race
race: ## run the tests of all packages without Kubernetes under the race detector
	CGO_ENABLED=1 go test -race $(LIGHT)

.PHONY: scenarios
scenarios: ## play every scenario of the catalogue
	@go build -ldflags '$(LDFLAGS)' -o bin/sim ./cmd/sim
	bin/sim run scenarios

.PHONY: check
check: ## gofmt, vet, staticcheck and the rules of the house
	@test -z "$$(gofmt -l .)" || { echo "gofmt these:"; gofmt -l .; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go test ./internal/rules

.PHONY: bench
bench: ## run the benchmarks and measure 500 nodes with 5,000 pods
	go test -run '^$$' -bench . -benchmem $(LIGHT)
	@go build -ldflags '$(LDFLAGS)' -o bin/sim ./cmd/sim
	bin/sim bench --nodes 500 --pods 5000

.PHONY: fuzz
fuzz: ## run each fuzz target for 30 seconds
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
		for target in $$(grep -o '^func Fuzz[A-Za-z]*' $$file | cut -c6-); do \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime 30s ./$$(dirname $$file) || exit 1; \
		done; \
	done

.PHONY: fmt
fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
