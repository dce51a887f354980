.DEFAULT_GOAL := help

.PHONY: help
help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## run the whole of Sluice on an embedded AWS, in about 90 s
	go run ./cmd/drainer demo

.PHONY: test
test: ## run all tests
	go test ./...

.PHONY: race
race: ## run all tests under the race detector, in random order
	.ci/run race

.PHONY: lint
lint: ## check formatting, vet, staticcheck, go fix and go.mod
	.ci/run lint

.PHONY: fuzz
fuzz: ## run each fuzz target, for FUZZTIME=200000x inputs
	FUZZTIME=$${FUZZTIME:-200000x} .ci/run fuzz

.PHONY: localstack
localstack: ## start LocalStack and the Bedrock simulator, without Docker; print the variables to export
	@localstack/local.sh start

.PHONY: localstack-stop
localstack-stop: ## end what make localstack started
	@localstack/local.sh stop

.PHONY: bench
bench: ## run the benchmarks; compare two outputs with: go tool -modfile=tools/go.mod benchstat OLD NEW
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: generate
generate: ## write the generated documents anew
	go generate ./...

.PHONY: fmt
fmt: ## format the code and apply go fix
	go fix ./...
	gofmt -w .

.PHONY: ci
ci: ## run everything that .ci/run checks before a change is taken
	.ci/run
