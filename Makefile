# radsort: `make demo` shows it, `make test` checks it. Both set up what is missing first.

CARGO ?= cargo
export ORT_DYLIB_PATH ?= $(CURDIR)/.runtime/libonnxruntime.so
# For tests that load ONNX Runtime into their own process; radsort itself sees to it at its start.
export ORT_DISABLE_TELEMETRY = 1

# Where the long runs leave their figures, and how `make endurance` is built.
FIGURES = RADSORT_FIGURES=$(CURDIR)/target/figures
BUILD ?= --release

.PHONY: help setup runtime build demo test lint doc model trial bench bench-check bench-gpu torture power-cuts endurance bench-train deb deb-vulkan test-systemd gpu-runtime rpm clean mutants fuzz deny sbom

help: ## What can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: runtime
	@packaging/build-tools.sh

runtime: ## ONNX Runtime's CPU library, from its PyPI wheel, into .runtime/
	@packaging/build-tools.sh
	@packaging/onnxruntime.sh

build: setup ## The program as it is installed: target/release/radsort
	$(CARGO) build --release --locked

demo: setup ## The main job on 60 phantoms in a scratch directory (built without the training code, which it does not need)
	$(CARGO) build --release --locked --no-default-features
	target/release/radsort demo

lint: setup ## Formatting, clippy and documentation, warnings as errors
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --features failpoints -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --features failpoints --quiet

test: lint ## Everything: lint, unit, property and integration tests
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --locked --features failpoints; \
	else \
		$(CARGO) test --locked --features failpoints; \
	fi
	python3 -m unittest discover -q -s bench

model: setup ## Train models/spine-phantom/ anew from phantoms: a first bundle, then `radsort retrain` (two to three hours)
	$(CARGO) build --release --locked
	models/train.sh

trial: setup ## How often models/spine-phantom/ is right on 600 fresh normal phantoms, and on 600 hard ones
	$(CARGO) build --release --locked
	target/release/radsort phantom-trial --at-least 0.97
	target/release/radsort phantom-trial --difficulty hard

bench: setup ## What radsort costs on this machine, against Python, ONNX Runtime alone, dicom-rs, mv and cp: bench/results.json (PART=, COUNT=)
	$(CARGO) build --release --locked --bin radsort --examples
	python3 bench/bench.py

bench-check: setup ## The same, but nothing is written: which ratios are worse by more than 15 % than those checked in, or gone
	$(CARGO) build --release --locked --bin radsort --examples
	python3 bench/bench.py --check

bench-gpu: setup ## The same end to end and raw on CUDA, where there is a GPU (RADSORT_GPU_RUNTIME= the folder of make gpu-runtime)
	$(CARGO) build --release --locked --bin radsort --examples
	PART=gpu,gpu-memory python3 bench/bench.py

torture: setup ## Kills, power cuts, sick disks, lost events, hostile people, in half an hour; figures into docs/reliability.md (SCALE=5 for more, SEED=, ONLY="torture events")
	@tests/torture.py

power-cuts: setup ## POWER_CUTS=200 times the power goes under load, on ext4 and on xfs, and everything is looked at (as root)
	$(FIGURES) POWER_CUTS=$${POWER_CUTS:-200} unshare --mount \
		$(CARGO) test --locked --features failpoints --test power_cut -- --nocapture
	@tests/figures.py

endurance: setup ## FILES=200000 through one daemon, and the start with a ledger of ENTRIES=1000000; figures and a picture into docs/ (BUILD="--features failpoints" for the build of `make test`)
	$(FIGURES) ENDURANCE_FILES=$(or $(FILES),200000) $(CARGO) test $(BUILD) --locked --test endurance -- --nocapture
	$(FIGURES) LEDGER_ENTRIES=$(or $(ENTRIES),1000000) $(CARGO) test $(BUILD) --locked --test long_ledger -- --nocapture
	@tests/figures.py

bench-train: setup ## Images a second of training, EfficientNet-B0 at 224, and PyTorch's beside it where it is installed
	$(CARGO) build --release --locked
	target/release/radsort bench-train
	@if python3 -c 'import torch, torchvision' 2>/dev/null; then python3 bench/train_pytorch.py; \
		else echo "PyTorch is not installed: no comparison (pip install torch torchvision)"; fi

deb: ## The Debian package, for Debian 12 and Ubuntu 22.04 and later: target/debian/
	@packaging/deb.sh

deb-vulkan: ## The same with training on a GPU through Vulkan: radsort-vulkan, in radsort's place (takes much longer)
	@packaging/deb.sh release vulkan

mutants: setup ## COUNT=20000 mutated DICOM files in all transfer syntaxes through the daemon, by SEED=1
	$(FIGURES) COUNT=$(or $(COUNT),20000) SEED=$(or $(SEED),1) $(CARGO) test --locked --no-default-features --features failpoints --test mutants -- --nocapture
	@tests/figures.py

fuzz: ## Each fuzz target for FUZZ_SECONDS=600, one after the other (nightly Rust and cargo-fuzz; TARGETS="header jpeg" for some)
	@$(FIGURES) fuzz/run.sh; status=$$?; tests/figures.py; exit $$status

deny: ## Licences, sources and bans of all dependencies (deny.toml); ADVISORIES=1 asks for known holes too, which needs internet
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked check licenses bans sources $(if $(ADVISORIES),advisories)

sbom: ## The bill of materials, CycloneDX: target/radsort.cdx.json
	@packaging/sbom.sh

test-systemd: ## The package on real systemd, Debian 13 and 12, under systemd-nspawn (as root; skipped with status 77 where it cannot be)
	@tests/systemd/run.sh

gpu-runtime: ## ONNX Runtime with CUDA out of WHEELS=DIR into OUT=DIR, to be copied to a site without internet
	@packaging/gpu-runtime.sh "$(WHEELS)" "$(OUT)"

rpm:
	@echo "RHEL and its relatives are not supported: there is no RPM and no SELinux policy. See docs/install.md." >&2; exit 1

clean: ## Remove what was built; the runtime stays
	$(CARGO) clean
