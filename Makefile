# `make demo` and `make test` set up what they need in .venv/ and run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check docs bench setup clean

setup: $(READY)

demo: $(READY)
	$(BIN)/cmb_demo -o cmb_demo_output

test: $(READY)
	$(BIN)/pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

# The short set of benchmarks/speed/; tables in bench_output/.
bench: $(READY)
	$(BIN)/python benchmarks/speed/start_up.py -n 5 --few -o bench_output/start_up
	$(BIN)/python benchmarks/speed/prediction.py -n 5 --cases 1 --shape 96 96 24 --arms ours default fastest limit -o bench_output/prediction
	$(BIN)/python benchmarks/speed/preparation.py -n 5 --cases 5 --shape 128 128 32 -o bench_output/preparation
	$(BIN)/python benchmarks/speed/training.py -n 5 --steps 5 -o bench_output/training

# uv installs the whole set in seconds where its cache is warm; its hard links keep further clones small.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) cmb_demo_output bench_output site
