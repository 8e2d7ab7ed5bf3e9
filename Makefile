# One word, one action. Everything runs inside .venv, which the first target to need it makes.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: install demo up test check bench bench-contraction bench-accuracy

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,onnx,postgres,torchvision,timm,transformers]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/python -m demo

up: $(INSTALLED)
	$(BIN)/adtn up

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/*.Dockerfile

# DATA: a folder with the four MNIST IDX files, gzipped or not.
bench: $(INSTALLED)
	$(BIN)/python -m bench lenet5-mnist $(if $(DATA),--data $(DATA))

bench-contraction: $(INSTALLED)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m bench contraction
	$(BIN)/python -m bench training-step

# DATA: as for bench. What was run before is not run again.
bench-accuracy: $(INSTALLED)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m bench accuracy $(if $(DATA),--data $(DATA))
