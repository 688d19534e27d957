# Everything a developer runs. `make` alone lists it. Needed: Go and make; `make race` also needs a C compiler.

GO       ?= go
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 10s
FUZZ     ?= .
BENCH    ?= .
COUNT    ?= 1
ARGS     ?=
RACE     ?= ./...
DAYS     ?= 3
FAULTDAYS ?= 30
QUORUM   ?= 20
INTERVALS ?= 1000
SEEDS    ?= 1000
MUTANT    ?= .
DURATION ?= 45s
SEED     ?= 0

# The same for every command, programs that tests build included, so that everything is compiled once: without C, as
# on a gateway, and without this machine's paths. The version is stamped by hand, since -buildvcs fails in a checkout
# that another user owns.
export GOFLAGS     := $(strip $(shell $(GO) env GOFLAGS) -trimpath -buildvcs=false)
export CGO_ENABLED := 0

LDFLAGS := -s -w -X main.version=$(VERSION)

# The tests start real programs, which the test cache cannot see. -shuffle finds tests that lean on each other, and
# turns that cache off.
TESTFLAGS := -shuffle=on -timeout=10m
LINT      := $(GO) tool -modfile=golangci.mod golangci-lint

# Both programs into folder $(1), for the machine that the variables $(2) describe.
programs = $(2) $(GO) build -ldflags '$(LDFLAGS)' -o $(1)/commonwatt ./agent && \
	$(2) $(GO) build -ldflags '$(LDFLAGS)' -o $(1)/firmware-sim ./firmware-sim

# The folders that have a test function whose name begins with $(1).
holding = $(shell grep -rl --include='*_test.go' '^func $(1)' . 2>/dev/null | xargs -r -n1 dirname | sort -u)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@echo 'usage: make TARGET'
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## bin/commonwatt and bin/firmware-sim for this machine
	$(call programs,bin)

.PHONY: demo
demo: build ## a street of six homes on this machine (ARGS='--fresh --homes 8')
	bin/commonwatt demo $(ARGS)

.PHONY: imbalance
imbalance: build ## the same street with batteries that follow what was sold and without, side by side (12 minutes)
	bin/commonwatt demo --data demo-data/imbalance --compare --pace 7s --span 10h --from 2026-01-20T18:30:00Z $(ARGS)

.PHONY: test
test: ## all tests; the real mosquitto, mbpoll, libmodbus and chromium take part
	$(GO) test $(TESTFLAGS) ./...

.PHONY: days
days: ## a street of DAYS simulated days (3) with three hours without a quorum, every account computed anew
	$(GO) test -run '^TestOutage$$' -timeout=0 -v ./agent/demo -days $(DAYS)

.PHONY: faults
faults: ## FAULTDAYS simulated days (30) of every fault of firmware-sim on every transport, each energy compared
	$(GO) test -run '^TestFaults' -timeout=0 -v ./agent/household -fault-days $(FAULTDAYS)

.PHONY: quorum
quorum: ## QUORUM times (20) a quorum is lost and found over both transports; the slowest recovery is printed
	$(GO) test -run '^TestQuorum$$' -timeout=0 -v ./market/consensus -quorum $(QUORUM)

.PHONY: replica
replica: ## two replicas join a chain of INTERVALS (1000), by a snapshot and from its first block; times and bytes are printed
	$(GO) test -run '^TestReplicas$$' -timeout=0 -v ./market/consensus -replica.intervals $(INTERVALS)

.PHONY: mutants
mutants: ## plants one bug after the other (those that MUTANT matches, all); a test must fail on each
	@$(GO) test -tags mutants -c -o bin/mutants.test ./agent/mutants && \
	cd agent/mutants && ../../bin/mutants.test -test.run '^TestMutants$$/$(MUTANT)' -test.timeout 0

.PHONY: nemesis
nemesis: build ## DURATION (45s) of kills, cuts, outages and worse, and what was acknowledged is held against every ledger (SEED=7)
	@$(GO) build -o bin/nemesis ./agent/nemesis
	@bin/nemesis -programs bin -duration $(DURATION) -seed $(SEED) $(ARGS)

.PHONY: sim
sim: ## a simulated day of each of SEEDS seeds (1000): faults, cheats, and every account computed anew (ARGS='-sim.seed 7' for one)
	$(GO) test -run '^(TestSeeds|TestKeptSeeds)$$' -timeout=0 -v ./agent/sim -sim.seeds $(SEEDS) $(ARGS)

.PHONY: parity
parity: ## recorded chains give the same hashes on 64-bit ARM (under qemu) as on this machine
	@command -v qemu-aarch64-static >/dev/null || \
	  { echo 'parity: qemu-aarch64-static is missing: apt-get install qemu-user-static' >&2; exit 1; }
	$(GO) test -run '^TestRecordedChains$$' -count=1 -v ./agent/sim
	GOARCH=arm64 $(GO) test -run '^TestRecordedChains$$' -count=1 -v -exec qemu-aarch64-static ./agent/sim

.PHONY: race
race: ## all tests under the race detector, with every block audited
	CGO_ENABLED=1 $(GO) test -race -tags debug $(TESTFLAGS) $(RACE)

.PHONY: check
check: format vet static lint tidy cross ## format, vet, staticcheck, golangci-lint, go.mod, ARM builds

.PHONY: fuzz
fuzz: ## every fuzz target in folder FUZZ (all), FUZZTIME each (10s)
	@set -e; for dir in $(filter $(if $(filter .,$(FUZZ)),%,$(FUZZ)%),$(call holding,Fuzz)); do \
	  names=$$($(GO) test -list '^Fuzz' $$dir); \
	  for name in $$names; do case $$name in Fuzz*) \
	    echo "== $$dir $$name"; \
	    $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5s $$dir ;; \
	  esac; done; \
	done

.PHONY: bench
bench: ## benchmarks, in the form benchstat reads (BENCH=regexp COUNT=10)
	@$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) -timeout 30m $(call holding,Benchmark)

.PHONY: clean
clean: ## remove bin
	rm -rf bin

# The parts of check, and what the continuous integration calls by itself.

.PHONY: format
format:
	@files=$$($(GO) tool gofumpt -l .) && \
	if [ -n "$$files" ]; then echo "not in gofumpt form (go tool gofumpt -w .):" && echo "$$files" && exit 1; fi

.PHONY: vet
vet:
	$(GO) vet ./...

.PHONY: static
static:
	$(GO) tool staticcheck ./...

.PHONY: lint
lint:
	$(LINT) config verify
	$(LINT) run ./...

.PHONY: tidy
tidy:
	$(GO) mod tidy -diff

.PHONY: cross arm arm64
cross: arm64 arm ## both programs for 64-bit and 32-bit ARM, without C

arm64:
	$(call programs,bin/linux-arm64,GOOS=linux GOARCH=arm64)

arm:
	$(call programs,bin/linux-armv7,GOOS=linux GOARCH=arm GOARM=7)
