# qlik-license-exporter: the commands that people use. Everything is set up on first use, in .venv and by apt-get.

PYTHON ?= python3
CONFIG ?=
BIN := .venv/bin

# Debian packages, as package:command pairs. What a pair lacks is installed by tests/packages (as root or with sudo).
DEMO_PACKAGES := prometheus:prometheus prometheus-alertmanager:prometheus-alertmanager
MSI_PACKAGES := wixl:wixl msitools:msibuild gcc-mingw-w64-x86-64-win32:x86_64-w64-mingw32-gcc \
	osslsigncode:osslsigncode
TEST_PACKAGES := $(DEMO_PACKAGES) chromium:chromium tinyproxy:tinyproxy nginx-light:nginx openssl:openssl systemd:systemd-analyze \
	util-linux:unshare iproute2:ip nodejs:node npm:npm lintian:lintian dpkg-dev:dpkg-shlibdeps binutils:strip $(MSI_PACKAGES) \
	wine: wine64:
BENCH_PACKAGES := mtail:mtail

.PHONY: help run demo check test test-windows fuzz bench dist windows msi deb release verify-release clean

help: ## show these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: .venv/runtime ## run the exporter; CONFIG=file for a configuration
	$(BIN)/qlik-license-exporter run $(if $(CONFIG),--config.file $(CONFIG))

demo: .venv/runtime ## play a license incident with a real Prometheus and Alertmanager, until Ctrl-C
	@tests/packages $(DEMO_PACKAGES)
	@$(BIN)/qlik-license-exporter demo

test: .venv/development ## set up and run everything that CI runs
	@tests/packages $(TEST_PACKAGES)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32
	@# Slow tests are handed over to a processor that is idle.
	$(BIN)/python -m pytest -n $(shell nproc) --dist worksteal --cov --cov-report=term --cov-fail-under=95
	PYTHON=$(BIN)/python tests/windows/run

check: .venv/development ## lint, types, and every test that is not slow, for the time between two changes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@# Half of their time the tests wait: two for each processor. Compiled modules are kept, whatever the environment says.
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -q -n $$((2 * $(shell nproc))) -m 'not slow'

fuzz: .venv/development ## fuzz the parsers for a minute each
	for target in logs configuration answers; do $(BIN)/python -m tests.fuzz $$target -max_total_time=60 -max_len=4000 || exit 1; done

bench: .venv/development ## measure speed against Debian's mtail, in the same run
	@tests/packages $(BENCH_PACKAGES)
	$(BIN)/python -m tests.bench

test-windows: .venv/bin/python ## of these, only the tests on a genuine Windows Python under Wine
	PYTHON=$(BIN)/python tests/windows/run

dist: .venv/development ## build wheel, sdist and SBOM reproducibly, and try them in a clean environment
	$(BIN)/python deploy/release/dist.py

windows: .venv/development ## build the folder for Windows, as a zip: installer and wheels by digest
	$(BIN)/python deploy/release/windows.py

msi: .venv/development ## build the MSI for Windows nodes without Python; MSI_KEY and MSI_CERTIFICATE sign it
	@tests/packages $(MSI_PACKAGES)
	$(BIN)/python deploy/windows/msi.py

deb: .venv/bin/python ## build the Debian package into dist/
	PYTHON=$(BIN)/python deploy/debian/build dist

release: clean-dist dist windows msi deb ## build all release files into dist/; RELEASE_KEY=file signs their digests
	$(if $(RELEASE_KEY),ssh-keygen -Y sign -f $(RELEASE_KEY) -n qlik-license-exporter dist/SHA256SUMS)

.PHONY: clean-dist
clean-dist:
	rm -rf dist

verify-release: .venv/development ## check dist/: digests, signature, materials, the same bytes; SIGNERS=file, IMAGE=1
	$(BIN)/python deploy/release/verify.py $(if $(SIGNERS),--signers $(SIGNERS)) $(if $(IMAGE),--image)

clean: ## remove what make has made
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, as PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv 2>/dev/null || { tests/packages python3-venv:; $(PYTHON) -m venv --clear .venv; }

.venv/runtime: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/development: .venv/bin/python pyproject.toml requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@ .venv/runtime
