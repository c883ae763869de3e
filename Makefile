# Everything here works on a machine that has only Go, make and apt, as root: what is missing is
# installed, announced, and skipped when it is there.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

VERSION  := $(shell cat VERSION)
REVISION := $(shell git rev-parse --short=8 HEAD 2>/dev/null || echo HEAD)
BRANCH   := $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null || echo HEAD)
BUILT    := $(shell date -u +%Y-%m-%dT%H:%M:%SZ)
PKG      := gitlab.com/gitlab-org/gitlab-runner/helpers/version
LDFLAGS  := -s -w -X $(PKG).version=$(VERSION) -X $(PKG).revision=$(REVISION) -X $(PKG).branch=$(BRANCH) -X $(PKG).built=$(BUILT)

PLUGIN_LDFLAGS := -s -w -X main.version=$(VERSION) -X main.revision=$(REVISION) -X main.reference=$(BRANCH) -X main.builtAt=$(BUILT)

OUT      := out
BIN      := $(OUT)/binaries
PLUGINS  := $(OUT)/plugins
MODULES  := . fleeting fleeting/metrics/prometheus taskscaler taskscaler/metrics/prometheus plugins
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2


.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: build
build: ## build gitlab-runner and the plugins; see helper-image for the helper
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/gitlab-runner .
	cd plugins && CGO_ENABLED=0 go build -trimpath -ldflags '$(PLUGIN_LDFLAGS)' -o ../$(BIN)/ ./cmd/...
	@# Where gitlab-runner looks for a plugin named "docker", "aws", … below FLEETING_PLUGIN_PATH=$(PLUGINS).
	@for plugin in $(BIN)/fleeting-plugin-*; do \
		install -D $$plugin $(PLUGINS)/registry.gitlab.com/gitlab-org/fleeting/plugins/$${plugin##*fleeting-plugin-}/$(VERSION)/plugin; done

.PHONY: setup
setup: ## install what is missing and start a local Docker engine
	@scripts/setup
	@scripts/engine start

.PHONY: images
images: setup ## make the images of the demonstration and the tests
	@scripts/images

.PHONY: s3server
s3server: ## build the S3 server of the demonstration and the tests
	@go run ./tests/s3server/install

.PHONY: browser
browser: ## install the browser that the test of the status page drives
	@scripts/setup browser

.PHONY: screenshot
screenshot: images helper-image browser build ## take the picture of docs/status.md anew
	STATUS_SCREENSHOT=$(CURDIR)/docs/images/status.png go test -tags system -count=1 -run TestTheStatusPage ./tests/system

.PHONY: helper-image
helper-image: setup ## make the bundled helper images for amd64 and arm64
	@VERSION=$(VERSION) scripts/helper-image

.PHONY: demo
demo: images helper-image s3server build ## run the main job for real: see README.md
	go run ./tests/demo

.PHONY: test
test: unit histories system ## everything that must hold: unit tests, then whole-system tests

.PHONY: unit
unit: setup ## unit tests of every module, with the race detector
	@for module in $(MODULES); do echo "== unit tests of $$module"; (cd $$module && go test -race -timeout 15m ./...) || exit 1; done

.PHONY: histories
histories: ## the safety properties of the two planners on 100,000 random histories each
	@echo "== histories of the planners"
	cd taskscaler && go test ./internal/fleet -timeout 15m -rapid.checks=100000
	cd fleeting && go test ./internal/pool -timeout 15m -rapid.checks=100000

.PHONY: system
system: images helper-image s3server browser build ## whole-system tests on real engines, sshd, plugins and git
	@# One suite at a time: their limits are those of a machine that does nothing else.
	go test -tags system -count=1 -p 1 -timeout 30m ./tests/... ./executors/...
	cd plugins && go test -tags system -count=1 -p 1 -timeout 30m ./...

.PHONY: release-plugins
release-plugins: ## build every plugin for every platform into an OCI layout in out/release; REGISTRY=host/path pushes
	go run ./scripts/release-plugins -version $(VERSION) -ldflags '$(PLUGIN_LDFLAGS)' -out $(OUT)/release/plugins $(if $(REGISTRY),-registry $(REGISTRY))

.PHONY: soak
soak: images helper-image build ## run 500 short jobs with cancels and dying instances; SOAK_JOBS=N for another number
	SOAK_JOBS=$${SOAK_JOBS:-500} go test -tags system -count=1 -v -timeout 60m -run TestManyShortJobs ./tests/autoscaling

.PHONY: bench
bench: images helper-image build ## measure jobs, side by side: docker, docker-autoscaler, the engine alone
	go run ./tests/bench

.PHONY: fuzz
fuzz: ## fuzz every parser for a while, and try the properties on many more histories
	scripts/fuzz

.PHONY: lint
lint: ## gofmt, go vet and staticcheck in every module
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	@for module in $(MODULES); do echo "== lint $$module"; (cd $$module && go vet -tags system ./... && $(STATICCHECK) -tags system ./...) || exit 1; done

.PHONY: cross
cross: ## build everything for the other platforms
	@for target in linux/arm64 windows/amd64 darwin/arm64; do for module in $(MODULES); do \
		echo "== build $$module for $$target"; \
		(cd $$module && CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/} go build ./...) || exit 1; done; done

.PHONY: clean
clean: ## remove what was built
	rm -rf $(OUT)
