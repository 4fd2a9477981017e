# Two commands for a newcomer: make demo, make test. Both set everything up by themselves.
PYTHON ?= python3
# a CPU or CUDA build of torch from another index: make test TORCH_INDEX=https://...
TORCH_INDEX ?=
TORCH_VERSION := 2.13.0

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
BASE := $(VENV)/.base-installed
DEV := $(VENV)/.dev-installed

.PHONY: deb demo test lint test-lowest test-slow soak audit fuzz page wheelhouse gpu-parts gpu-check gpu-emulated gpu-rehearsal bench engines schema reference lock clean help
help:
	@echo "make demo   inspect 12 rendered boards with the real daemon; VIEW=1: and show them on the operator's page"
	@echo "            TEACH=1: with a bundle that is taught first, from 16 rendered boards, without training"
	@echo "make test   linters, types, import rules and the default test suite"
	@echo "make test-lowest  the command line and the demo bundle with the lowest versions that pyproject.toml allows"
	@echo "make bench  speed and memory of the demo bundle on this machine"
	@echo "make test-slow  tests that take minutes (training on real photos)"
	@echo "make soak   the whole daemon on camera frames with faults at random (SOAK_MINUTES=10)"
	@echo "make audit  20,000 verdicts to five subscribers while everything is killed and cut"
	@echo "make fuzz   random input to everything that listens (FUZZ_INPUTS=1000000)"
	@echo "make gpu-check  kernels, streams and engines on this machine's GPU, into one JSON (needs nvcc)"
	@echo "make wheelhouse  a folder to install from without a network (PY=3.12 EXTRAS=gpu,barcode OUT=build/wheelhouse)"
	@echo "make deb  the Debian package of a line PC (PY=3.11 MACHINE=x86_64 EXTRAS=opcua,view OUT=build/deb)"
	@echo "make gpu-rehearsal  the GPU check of a wheelhouse, in a namespace without a network, on an emulated GPU"
	@echo "make gpu-emulated  pycuda and the line on a driver that runs on the processor (needs nvcc)"
	@echo "make page   the operator's page from its sources (needs Node.js and npm)"
	@echo "make reference  the pages of docs/reference that are made from the code"
	@echo "make engines  fp16 and int8 bundles of every backbone, for onnxruntime and tensorrt-rtx (trains them first)"

# make demo VIEW=1: with the operator's page at VIEW_AT, until Ctrl-C
VIEW ?=
VIEW_AT ?= 127.0.0.1:8080

# make demo TEACH=1: a bundle from photos of good boards first, as a technician makes it (the training packages)
TEACH ?=
TAUGHT := build/taught

demo: $(if $(TEACH),$(DEV),$(BASE)) $(if $(VIEW),$(VENV)/.view-installed)
	$(if $(TEACH),rm -rf $(TAUGHT)-boards && $(BIN)/hisir-edge synth --product 7 --seed 3 --good 16 --test-good 1 \
	  --defective 0 --size 1600x1200 --out $(TAUGHT)-boards && $(BIN)/hisir-edge teach $(TAUGHT)-boards --out $(TAUGHT))
	$(BIN)/hisir-edge demo $(if $(VIEW),--view $(VIEW_AT)) $(if $(TEACH),--bundle $(TAUGHT))

$(VENV)/.view-installed: $(BASE)
	$(PIP) install --require-hashes -r requirements/extras/view.lock
	@touch $@

# processes that run tests beside each other: they wait more than they compute
TEST_WORKERS ?= $(shell nproc)

test: lint test-packages
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m "not slow and not gpu"

lint: $(DEV)
	$(BIN)/ruff format --check hisir_edge tests requirements docs
	$(BIN)/ruff check hisir_edge tests requirements docs
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini
	$(BIN)/lint-imports --no-cache

# the line PC's part with the lowest versions that pyproject.toml allows (Python 3.10 to 3.12: wheels of that time)
LOWEST := .venv-lowest

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python tests/lowest.py

$(LOWEST)/.installed: requirements/lowest.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info < (3, 13) else "expected Python 3.10 to 3.12 for the lowest versions; run make with PYTHON=python3.12 or another")'
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip --disable-pip-version-check -q install --require-hashes -r requirements/lowest.lock
	$(LOWEST)/bin/python -m pip --disable-pip-version-check -q install --no-deps -e .
	@$(LOWEST)/bin/python -c 'import cv2' 2>/dev/null || $(MAKE) --no-print-directory opencv-libraries BIN=$(LOWEST)/bin
	@touch $@

test-slow: $(DEV)
	$(BIN)/python -m pytest -m slow --timeout 7200

# minutes of camera frames and faults at random
SOAK_MINUTES ?= 10

soak: $(DEV)
	@mkdir -p build
	$(BIN)/python tests/soak/soak.py --minutes $(SOAK_MINUTES) --rate-hz 30 --work build/soak

# 20,000 verdicts of three lines to five subscribers, 50 kills, a network that is cut
audit: $(DEV) test-packages
	HISIR_AUDIT=20000,50 $(BIN)/python -m pytest -s tests/system/test_audit.py

# inputs to every parser of the sockets
FUZZ_INPUTS ?= 1000000

fuzz: $(DEV)
	PYTHONPATH=tests $(BIN)/python tests/fuzz/run.py --inputs $(FUZZ_INPUTS)

# a folder from which hisir-edge is installed on a machine without a network; with the extra gpu also the GPU check
# (CHECK=no leaves it out). PY and MACHINE are of that machine, HAVE is what "pip list" says there
PY ?= $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
MACHINE ?= x86_64
EXTRAS ?=
OUT ?= build/wheelhouse
HAVE ?=
GLIBC ?= 2.35
comma := ,
CHECK ?= $(if $(filter gpu,$(subst $(comma), ,$(EXTRAS))),yes,no)
MOST_MIB ?= $(if $(filter yes,$(CHECK)),60)

MAKE_WHEELHOUSE = $(BIN)/python requirements/wheelhouse/make_wheelhouse.py --python $(PY) --machine $(MACHINE) \
  --glibc $(GLIBC) --extras "$(EXTRAS)" $(if $(HAVE),--have "$(HAVE)") $(if $(MOST_MIB),--most-mib $(MOST_MIB)) \
  --out "$(OUT)"

wheelhouse: $(BASE)
	@$(MAKE_WHEELHOUSE) --dry-run
	$(if $(filter yes,$(CHECK)),$(MAKE) --no-print-directory gpu-parts)
	$(MAKE_WHEELHOUSE) $(if $(filter yes,$(CHECK)),--check build/gpu-parts)

# the Debian package for the system that has Python PY (docs/how-to/install-deb.md)
deb: $(DEV)
	$(BIN)/python requirements/wheelhouse/make_deb.py --python $(PY) --machine $(MACHINE) --extras "$(EXTRAS)" \
	  --out $(if $(filter command line,$(origin OUT)),$(OUT),build/deb)

# what the GPU check needs and no GPU makes: minutes the first time
gpu-parts: $(DEV)
	$(BIN)/python tests/gpu/prepare.py --out build/gpu-parts

# the GPU check as a machine without a network runs it, on the emulated driver (needs nvcc, g++ and unshare)
gpu-rehearsal: $(DEV)
	@mkdir -p build/rehearsal
	$(BIN)/python -m pip list --format freeze 2>/dev/null | grep -v -i -E '^(pycuda|pytools|siphash24|mako|hisir)' >build/rehearsal/have.txt
	$(MAKE) --no-print-directory wheelhouse PY=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])') \
	  EXTRAS=gpu HAVE=build/rehearsal/have.txt OUT=build/rehearsal/wheelhouse
	$(BIN)/python tests/gpu/rehearse.py

# pycuda is built where it is missing; all figures go into build/gpu-check.json
gpu-check: gpu-parts
ifneq ($(TORCH_INDEX),)
	$(BIN)/python -c 'import sys, torch; sys.exit(torch.cuda.is_available() - 1)' || \
	  $(PIP) install --force-reinstall --index-url $(TORCH_INDEX) torch==$(TORCH_VERSION)
endif
	$(BIN)/python tests/gpu/check.py

# the same tests where there is no GPU: real pycuda on a driver that runs on the processor (needs nvcc and cuda.h)
gpu-emulated: $(DEV)
	PYTHONPATH=tests:tests/gpu $(BIN)/python tests/gpu/emulate.py $(BIN)/python -m pytest -m gpu -rs tests/gpu

bench: $(DEV)
	@mkdir -p build
	$(BIN)/hisir-edge bench --bundle engines/demo --rounds 9 --json build/bench.json --trace build/bench-trace.json

# minutes of training for each backbone that has no run yet in build/runs
ENGINE_MINUTES ?= 10
BACKBONES := unet nafnet rep

engines: $(BACKBONES:%=build/runs/%.trained)
	$(BIN)/hisir-edge build-engine --recipe engines/unet.toml engines/nafnet.toml engines/rep.toml \
	  --false-calls-per-board 0.1 --product rendered-7 --out engines

build/boards.rendered: | $(DEV)
	rm -rf build/boards
	$(BIN)/hisir-edge synth --product 7 --seed 7 --good 40 --test-good 10 --defective 22 --size 2048x1536 --out build/boards
	@touch $@

build/runs/%.trained: build/boards.rendered
	$(BIN)/hisir-edge train --data build/boards --backbone $* --max-minutes $(ENGINE_MINUTES) --out build/runs/$*
	@touch $@

# pages that are made from the code: line.toml, commands, metrics
reference: | $(DEV)
	$(BIN)/python docs/generate.py

# the operator's page (hisir_edge/view/static) from its TypeScript; needs Node.js 20 or later and npm
page:
	cd hisir_edge/view/page && npm install --no-save --no-audit --no-fund && npm run build

# the published schema of manifest.json
schema: | $(DEV)
	$(BIN)/python -c 'import json; from hisir_edge.bundle.manifest import Manifest; \
	  print(json.dumps(Manifest.model_json_schema(), indent=2))' > docs/reference/bundle.schema.json

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 14) else "expected Python 3.10 to 3.13; got %d.%d; run make with PYTHON=python3.12 or another" % v[:2])'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "expected the venv module; on Debian and Ubuntu: sudo apt-get install python3-venv"; exit 2; }

$(BASE): requirements/base.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements/base.lock
	$(PIP) install --no-deps -e .
	@$(BIN)/python -c 'import cv2' 2>/dev/null || $(MAKE) --no-print-directory opencv-libraries
	@touch $@

# opencv-python links to two desktop libraries that a minimal system lacks
.PHONY: opencv-libraries
opencv-libraries:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && (apt-get install -qq -y libgl1 libglib2.0-0 || apt-get install -qq -y libgl1 libglib2.0-0t64); fi
	@$(BIN)/python -c 'import cv2' || { \
	  echo "expected libGL and libglib for OpenCV; on Debian and Ubuntu: sudo apt-get install libgl1 libglib2.0-0"; exit 2; }

$(DEV): requirements/dev.lock $(BASE)
	$(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==$(TORCH_VERSION)
	$(PIP) install --require-hashes -r requirements/dev.lock
	@touch $@

# what tests run against: a GigE Vision camera, a database, a broker, ZeroMQ and JSON Schema in C and C++, a browser; where they
# cannot be installed those tests are skipped, with the reason
TEST_PACKAGES := gir1.2-aravis-0.8 python3-gi postgresql mosquitto rabbitmq-server libssl-dev libzmq3-dev libvalijson-dev nlohmann-json3-dev g++ chromium mmdebstrap
# no service is started: RUNLEVEL=1 is what invoke-rc.d goes by
INSTALL := RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends

.PHONY: test-packages
test-packages:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s $(TEST_PACKAGES) >/dev/null 2>&1; then \
	  apt-get update -qq >/dev/null 2>&1; $(INSTALL) $(TEST_PACKAGES) >/dev/null 2>&1 || for package in $(TEST_PACKAGES); do \
	  $(INSTALL) $$package >/dev/null 2>&1 || echo "no $$package here: the tests that need it are skipped"; done; fi

# refresh the locks (needs uv); torch is left out, see requirements/no-torch.txt
lock:
	uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
	  pyproject.toml -o requirements/base.lock
	uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
	  pyproject.toml requirements/torch-runtime.in --extra dev --override requirements/no-torch.txt \
	  -c requirements/base.lock -o requirements/dev.lock
	for name in $(EXTRAS_LOCKED); do $(MAKE) --no-print-directory requirements/extras/$$name.lock; done
	uv pip compile -q --universal --resolution lowest-direct --python-version 3.10 --generate-hashes --no-header \
	  --no-annotate pyproject.toml --extra barcode --extra tiff -o requirements/lowest.lock

# what an extra adds to the base install; gpu-check and gpu-check-torch are no extras, they have an .in file alone
EXTRAS_LOCKED := barcode cfx gpu gpu-check gpu-check-torch mqtt opcua plc postgres ray reinspect tensorrt-rtx tiff train view viva webhook
extra_of = $(filter-out gpu-check gpu-check-torch,$(1))

.PHONY: $(EXTRAS_LOCKED:%=requirements/extras/%.lock)
$(EXTRAS_LOCKED:%=requirements/extras/%.lock): requirements/extras/%.lock:
	@mkdir -p build
	uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-header --no-annotate pyproject.toml \
	  $(wildcard requirements/extras/$*.in) $(if $(call extra_of,$*),--extra $*) --override requirements/no-torch.txt \
	  -c requirements/base.lock -c requirements/dev.lock -o build/$*.lock
	$(BIN)/python requirements/wheelhouse/locks.py requirements/base.lock build/$*.lock > $@

clean:
	rm -rf $(VENV) $(LOWEST) build
