# Two commands do everything on a fresh machine with Python 3.10 or newer, `make reproduce` and `make test`. All of them:
#   make reproduce     the main job, on synthetic data (DATA=folder for BUSI; MODEL=, PROFILE=, WEIGHTS=, NAME=, ARGS= as in `busiseg reproduce --help`)
#   make test          the notebooks, the tests and the style of every line
#   make install       the environment in .venv, with everything that tests and notebooks need
#   make docs          the site, in _docs
#   make readme        README.md from nbs/index.ipynb
#   make export        the modules from the notebooks, and clean notebooks; after each change of a notebook
#   make drift         run notebooks again and compare what they say with what is stored (NAMES=)
#   make bench         timings into results/benchmarks (DATA=folder for BUSI)
#   make coverage      every notebook and test with the lines they reach, into results/benchmarks/tests.json
#   make fuzz          a long campaign of damaged files against every reader
#   make audit         what is installed against PyPI's advisories (internet)
#   make gpu-runs      the paper's two profiles, for a machine with a GPU (DATA=folder of BUSI)
#   make address       the project's address from settings.ini into everything that shows it
#   make setup-cells   the setup cell of every notebook
#   make colab-check   Colab's steps on this machine (NAMES=)
#   make clean         remove what the targets above made
PYTHON  ?= python3
VENV    ?= .venv
BIN      = $(VENV)/bin
STAMP    = $(VENV)/.installed
DATA    ?=
PROFILE ?= $(if $(DATA),quick,demo)
MODEL   ?=
WEIGHTS ?=
NAME    ?=
ARGS    ?=
PHANTOM  = .cache/phantom
options  = $(if $(MODEL),--model $(MODEL)) $(if $(WEIGHTS),--weights $(WEIGHTS)) $(if $(NAME),--name $(NAME)) $(ARGS)

.PHONY: help install reproduce test docs readme export clean bench gpu-runs drift coverage fuzz audit
help:
	@sed -n 's/^#   //p' Makefile

install: $(STAMP)
$(STAMP): settings.ini setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "busiseg_nb needs Python 3.10 or newer; say PYTHON=/path/to/python3"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,app,dicom,onnx,openvino,pretrained]'
	@touch $@

reproduce: $(STAMP)
	$(if $(DATA),,$(BIN)/busiseg phantom $(PHANTOM) --scale .5 --benign 80 --malignant 60 --normal 20)
	$(BIN)/busiseg reproduce --data "$(or $(DATA),$(PHANTOM))" --profile $(PROFILE) --resume $(options)

test: $(STAMP)
	$(BIN)/python scripts/test_notebooks.py
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile tests
	$(BIN)/ruff check .

drift: $(STAMP)
	$(BIN)/python scripts/drift.py $(NAMES)

coverage: $(STAMP)
	$(BIN)/python scripts/measure_coverage.py

audit: $(STAMP)
	$(BIN)/python -m pip install -q pip-audit
	$(BIN)/pip-audit --local --skip-editable

fuzz: $(STAMP)
	$(BIN)/python -m pip install -q atheris
	$(BIN)/python analysis/fuzz.py --json results/benchmarks/fuzz.json

export: $(STAMP)
	$(BIN)/nbdev_export && $(BIN)/nbdev_clean

docs: $(STAMP)
	$(BIN)/python scripts/docs.py

readme: $(STAMP)
	$(BIN)/python scripts/readme.py

address: $(STAMP)
	$(BIN)/python scripts/address.py

setup-cells: $(STAMP)
	$(BIN)/python scripts/setup_cell.py

colab-check: $(STAMP)
	$(BIN)/python scripts/colab_check.py $(NAMES)

bench: $(STAMP)
	for b in tiling loading training inference; do $(BIN)/python benchmarks/$$b.py $(if $(DATA),--data "$(DATA)") --json results/benchmarks/$$b.json; done

gpu-runs: $(STAMP)
	BIN=$(BIN) DATA="$(DATA)" sh analysis/gpu_runs.sh

clean:
	rm -rf $(VENV) .cache runs _docs _proc *.egg-info
