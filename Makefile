# Two commands do all set-up on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test lint benchmark clean

demo: $(VENV)/installed  ## sing the example lyrics over their accompaniment with save/demo
	$(RUN) synthesis.py --lyrics examples/lyrics.lrc --accompaniment examples/evening-sun.ogg --out out/demo

test: $(VENV)/installed-dev  ## style check and the whole test suite
	$(VENV)/bin/ruff check .
	$(RUN) -m pytest

benchmark: $(VENV)/installed  ## this machine's limits and what we reach of them
	$(RUN) benchmark.py

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	touch $@

clean:  ## the environment and what was rendered; corpora and checkpoints stay
	rm -rf $(VENV) out
