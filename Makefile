# What a change is checked with. The commands are in .ci/run, which needs bash, Go and git alone.

.PHONY: all test lint tests mutants bench fuzz e2e examples

# Everything, as on a pull request.
all:
	bash .ci/run

# What to run often.
test:
	go test -race ./...

# lint: formatting, vet, linters, dependencies. tests: also on one and on eight processors and on 32 bits.
# mutants: every tenth fault of scripts/mutate. bench: all benchmarks, once. fuzz: some
# seconds for each target, or FUZZTIME=1m. e2e: NATS, processes, a browser and Prometheus.
lint tests mutants bench fuzz e2e examples:
	bash .ci/run $@
