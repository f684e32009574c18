# Holdfast. `make` lists the targets.
GO ?= go

.DEFAULT_GOAL := help
.PHONY: help build test race lint fuzz-smoke fuzz crash kill clients bench bench-redis bench-restart bench-cold bench-memory bench-write-amp bench-checkpoint clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

build: ## build ./holdfast
	$(GO) build -o holdfast ./cmd/holdfast

test: ## all tests: unit, crash, metamorphic, differential and interop (these where redis-server is installed)
	$(GO) test -timeout 15m ./...

race: ## the packages with concurrency under the race detector
	$(GO) test -race -short -timeout 15m ./wal ./snapshot ./server ./server/engine

lint: ## gofmt, go vet, house rules
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt would change the files above"; exit 1; }
	$(GO) vet ./...
	$(GO) test ./cmd/internal/lint

crash: ## crash before every single write, both policies (long)
	HOLDFAST_CRASH_STRIDE=1 $(GO) test -timeout 60m -run 'Crash' ./wal ./snapshot ./server/engine

clean: ## remove what was built
	rm -f holdfast
