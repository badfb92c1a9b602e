# Every command of the project. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
# What `make test-versions` runs on: interpreter and version of torch, the oldest and the newest of pyproject.toml.
VERSIONS ?= python3.10:2.10.0 python3.13:2.13.0
# Folders and files of tests for `make test` and `make test-versions`; all where it is empty.
TESTS ?=
# What `make test-wheel` installs the wheel beside: interpreter and version of torch.
WHEEL_ENVIRONMENTS ?= python3.10:2.10.0 python3.13:2.11.0 $(PYTHON):2.13.0
PYTEST := OMP_NUM_THREADS=2 $(BIN)/python -m pytest
SOURCES := setup.py pyproject.toml $(wildcard csrc/*.* csrc/*/*)

.PHONY: help install build demo test test-gpu test-large test-versions wheel test-wheel sanitize check lint format system-packages clean

help:
	@echo "make demo             simulate, fine-tune, score and draw BEVFusion at demonstration size (2 minutes on 2 idle cores)"
	@echo "make test             everything a CPU can show"
	@echo "make test-gpu         the operator and model tests on a GPU"
	@echo "make test-large       big clouds and long runs, up to an hour"
	@echo "make test-versions    make test on the oldest and the newest Python, torch and NumPy that we take"
	@echo "make wheel            dist/: a source archive, and from it one wheel for Python 3.10 and later, torch 2.10 and later"
	@echo "make test-wheel       the operator tests on that wheel, in fresh environments with three versions of torch"
	@echo "make sanitize         the operator tests on a build with AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make check            ruff + make test: what continuous integration runs"
	@echo "make system-packages  apt packages for Open3D's off-screen pictures (asks for root)"
	@echo "make build            .venv with pinned versions and the compiled operators (make install is the same);"
	@echo "                      the others do it by themselves"
	@echo "make lint             ruff: the checks and the format, changing nothing"
	@echo "make format           ruff: the format, and the checks' safe fixes"
	@echo "make clean            removes what was built and caches; .venv, data and work_dirs stay"

$(VENV)/.installed: requirements/lock.txt
	@command -v $(PYTHON) >/dev/null || { echo "missing: $(PYTHON) (Python 3.10 to 3.13)"; exit 1; }
	@$(PYTHON) tools/check_machine.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH) -c requirements/lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/lock.txt
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
	  --config-settings editable_mode=compat -e .
	@touch $@

install build: $(VENV)/.built

demo: build
	$(BIN)/python tools/demo.py

test: build
	$(PYTEST) -m "not large" $(TESTS)

test-gpu: build
	$(PYTEST) -m "gpu and not large"

test-large: build
	$(PYTEST) -m large
	$(PYTEST) tests/sparse/test_key_limits.py

# An environment for each stays beside .venv; the operators that `make build` left in the checkout serve them all.
test-versions: build
	@for version in $(VERSIONS); do \
	  python=$${version%:*}; torch=$${version#*:}; venv=.venv-$$python-$$torch; \
	  PYTHONPATH=$(CURDIR) $(MAKE) $$venv/.installed test -o $$venv/.built \
	    VENV=$$venv PYTHON=$$python TORCH=torch==$$torch || failed="$$failed $$version"; \
	done; test -z "$$failed" || { echo "failed on$$failed"; exit 1; }

wheel: build
	rm -rf dist
	$(BIN)/python setup.py -q sdist --dist-dir dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir dist dist/*.tar.gz
	@ls -l dist

test-wheel: wheel
	$(BIN)/python tools/test_wheel.py dist/*.whl $(WHEEL_ENVIRONMENTS)

sanitize: build
	PYTHON=$(BIN)/python tools/sanitize_cpu.sh

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: build
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint test

system-packages:
	apt-get update
	apt-get install -y --no-install-recommends libusb-1.0-0 libgl1 libegl1 libvulkan1 mesa-vulkan-drivers

clean:
	rm -rf build dist *.egg-info pcperc/*.so $(VENV)/.built .pytest_cache .ruff_cache .hypothesis
