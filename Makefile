# Holdfast. `make` lists the targets.
GO ?= go

.DEFAULT_GOAL := help
.PHONY: help build test race lint fuzz-smoke crash kill bench-kill clients bench bench-quick bench-smoke bench-redis bench-restart bench-cold bench-memory bench-write-amp bench-checkpoint bench-outage bench-sync bench-cutsync bench-slowreplica bench-replkill bench-failover bench-soak bench-throughput bench-cow bench-replication bench-go bench-compare replication soak clean

help: ## this list
	@grep -hE '^[a-z -]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

build: ## build ./holdfast
	$(GO) build -buildvcs=auto -o holdfast ./cmd/holdfast

test: ## all tests: unit, crash, metamorphic, differential and interop (these where redis-server is installed)
	$(GO) test -timeout 15m ./...

race: ## the packages with concurrency under the race detector
	$(GO) test -race -short -timeout 15m ./wal ./snapshot ./replication ./server ./server/engine

lint: ## gofmt, go vet, house rules
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt would change the files above"; exit 1; }
	$(GO) vet ./...
	$(GO) test ./cmd/internal/lint

# A number of inputs, not a time: at the end of a time go test may report its own deadline as a failure, without an input that failed.
FUZZTIME ?= 20000x
FUZZ = ./wal:FuzzReadRecord ./wal:FuzzParseChunk ./snapshot:FuzzDecodeMeta ./snapshot/rdb:FuzzDecodeValue \
	./bench:FuzzReplyEnd ./snapshot/rdb:FuzzVerifyDump ./snapshot/rdb:FuzzFileReader ./server/keyspace:FuzzRowKey ./server/keyspace:FuzzRow ./wal:FuzzCommitFile ./server:FuzzGuard

fuzz-smoke: ## every fuzz target with some thousand inputs (FUZZTIME=1000000x for more)
	@set -e; for t in $(FUZZ); do echo "$$t"; $(GO) test -run '^$$' -fuzz "^$${t#*:}$$" -fuzztime $(FUZZTIME) "$${t%:*}"; done

crash: ## crash before every single write, both policies (long)
	HOLDFAST_CRASH_STRIDE=1 $(GO) test -timeout 60m -run 'Crash' ./wal ./snapshot ./server/engine

kill: build ## kill -9 a loaded server 20 times, with everysec 5 times, then check its data (CI)
	./holdfast bench kill -cycles 20
	./holdfast bench kill -cycles 5 -policy everysec -run 3s

bench-kill: build ## the same 200 times, with everysec 50 times
	./holdfast bench kill -cycles 200
	./holdfast bench kill -cycles 50 -policy everysec -run 3s

clients: ## go-redis, python-redis, node-redis, ioredis, redis-cli and redis-benchmark against Holdfast, and against redis-server
	cd server/servertest/clients && npm ci --no-audit --no-fund
	HOLDFAST_CLIENTS=1 $(GO) test -count=1 -run 'TestClients' ./server/servertest

bench-redis bench-restart bench-cold bench-memory bench-write-amp bench-checkpoint bench-outage bench-sync bench-cutsync bench-slowreplica bench-replkill bench-failover bench-soak bench-throughput bench-cow: build ## one measurement, into docs/bench
	./holdfast bench $(@:bench-%=%) $(FLAGS)

replication: build ## outage, syncs, cuts, kills, fail-over and a soak of replication in small sizes (CI)
	./holdfast bench outage -servers holdfast -bytes 16m -warm 16m -rounds 1 -keys 20000 -t 500ms -rate 1000 -o ""
	./holdfast bench sync -pairs holdfast:holdfast,holdfast:redis,redis:holdfast -rounds 1 -keys 50000 -t 500ms -c 8 -o ""
	./holdfast bench cutsync -pairs holdfast:holdfast -keys 100000 -old 2000 -o ""
	./holdfast bench slowreplica -pairs holdfast:holdfast,holdfast:redis -keys 20000 -t 3s -for 3s -bar 64m -o ""
	./holdfast bench replkill -pairs holdfast:holdfast -cycles 5 -run 500ms -o ""
	./holdfast bench replkill -pairs holdfast:redis,redis:holdfast -cycles 2 -run 500ms -o ""
	./holdfast bench failover -servers holdfast -rounds 1 -t 1s -o ""
	./holdfast bench soak -servers holdfast -duration 20s -o ""

SMOKE = $(or $(TMPDIR),/tmp)/holdfast-bench-smoke
bench-smoke: build ## every measurement that has a page, of both servers, in sizes that take seconds, and each benchmark of the inner parts once (CI)
	$(GO) test -run '^$$' -bench . -benchtime 1x ./wal ./snapshot/... ./server/...
	./holdfast bench throughput -mixes set,hget,lrange_100,ycsb-d,ycsb-e,ycsb-f -p 1,16 -keys 2000 -t 100ms -warm 20ms -rounds 1 -o "" -out $(SMOKE)/throughput
	./holdfast bench throughput -loop open -rate 2000 -dist zipf -mixes ycsb-a -policy everysec -keys 2000 -t 200ms -warm 20ms -rounds 1 -o "" -out $(SMOKE)/open
	./holdfast bench cow -rates 1000,max -dists zipf,hotspot -values 1000 -sizes 4k -keys 3000 -rate 1000 -t 100ms -rounds 1 -o "" -out $(SMOKE)/cow
	./holdfast bench restart -keys 3000 -rounds 2 -load 100ms -o "" -out $(SMOKE)/restart
	./holdfast bench restart -server 'mine=redis-server --port {port} --dir {dir} --bind 127.0.0.1 --save "" --appendonly yes --appendfsync {policy}' -servers mine -keys 2000 -rounds 1 -load 50ms -o "" -out $(SMOKE)/mine
	./holdfast bench report -out $(SMOKE)/again -compare $(SMOKE)/cow/results.json $(SMOKE)/cow/results.json
	rm -rf $(SMOKE)


soak: build ## a primary and three replicas under load for 10 minutes, with kills, stops, cuts and promotions
	./holdfast bench soak -servers holdfast -duration 10m

bench-quick: build ## throughput, snapshots, outages, syncs, restarts in small sizes beside Redis, with a page of plots, into OUT (10 minutes)
	./holdfast bench all --quick --out $(or $(OUT),bench/results)

bench: build ## all measurements, each into docs/bench (about an hour)
	set -e; for b in redis restart cold memory write-amp checkpoint; do ./holdfast bench $$b; done

bench-replication: build ## all measurements of replication, each into docs/bench (hours: 5 GB outages, replicas stopped for minutes)
	./holdfast bench outage -bytes 1g,5g
	set -e; for b in sync cutsync slowreplica replkill failover; do ./holdfast bench $$b; done

GOBENCH ?= .
bench-go: ## the inner parts, by go test -bench (GOBENCH=pattern; COUNT=6)
	$(GO) test -timeout 60m -run '^$$' -bench '$(GOBENCH)' -benchmem -count $(or $(COUNT),1) ./wal ./snapshot/... ./server/...

bench-compare: ## the inner parts at REF and here, in turn, compared by benchstat (REF=main~10 GOBENCH=pattern ROUNDS=6)
	GO=$(GO) bench/compare.sh '$(REF)' '$(GOBENCH)' $(or $(ROUNDS),6)

clean: ## remove what was built
	rm -f holdfast
