# Two commands do all set-up on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: help demo web samples test evaluation weights lint benchmark campaign clean
.DEFAULT_GOAL := help

help:  ## these lines
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sort | sed -E 's/:[^#]*##/\t/' | expand -t 14

demo: $(VENV)/installed  ## sing the example lyrics over their accompaniment with save/demo
	$(RUN) synthesis.py --lyrics examples/lyrics.lrc --accompaniment examples/evening-sun.ogg --out out/demo

web: $(VENV)/installed-web  ## a page to try it, http://127.0.0.1:7860
	$(RUN) app.py

# Commit docs/samples and docs/index.html with the weights that they are of.
samples: $(VENV)/installed-songbook  ## five sounds of save/demo, and docs/index.html to hear them
	$(RUN) -m evaluation.samples

test: $(VENV)/installed-dev  ## style, types and the whole test suite
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy .
	$(RUN) -m pytest

evaluation: $(VENV)/installed-evaluation feature/examples/index.json  ## the README's table
	$(RUN) evaluate.py song --data examples --split test --out out/evaluation/song --report
ifneq ($(wildcard save/demo/inpainter.pt),)
	$(RUN) evaluate.py inpainting --data examples-stems --split test --rows all \
		--inpainter save/demo/inpainter.pt --out out/evaluation/inpainting
else
	@echo "inpainting not measured: there is no save/demo/inpainter.pt"
endif

# Sings the example songs; says which packages are missing when they are.
feature/examples/index.json: | $(VENV)/installed-evaluation
	$(RUN) prepare_data.py songbook examples/songs --name examples --takes 1 \
		--validation-share 0 --test-share 0.5

# make weights SONGS=DIR SPEECH=DIR: corpora, all trainings and save/demo, resumable at any point.
# On a GPU: PRESET=base SOURCE=source-base TRAIN="--device cuda". Hours for both are in
# docs/model_card.md. The inpainter on mels stays the one that ships: its commands are there, too.
SONGS ?= examples/songs
SPEECH ?= LJSpeech-1.1
PRESET ?= small
SOURCE ?= source
TRAIN ?=
weights: $(VENV)/installed-evaluation $(VENV)/installed-songbook  ## the weights of save/demo, from songs and speech
	$(RUN) prepare_data.py songbook $(SONGS) --name songbook --seconds 60 --takes 2 \
		--linear on-the-fly --validation-share 0.10 --test-share 0.12
	$(RUN) prepare_data.py ljspeech $(SPEECH) --name ljspeech \
		--validation-share 0.06 --test-share 0.06
	$(RUN) prepare_data.py align ljspeech $(SPEECH)
	$(RUN) train_transformer.py --data songbook,ljspeech --preset $(PRESET) --run voice $(TRAIN)
	$(RUN) train_postnet.py --data ljspeech --preset $(PRESET) --run voice $(TRAIN)
	$(RUN) train_postnet.py --data songbook --preset $(SOURCE) --run sung \
		--transformer save/transformer/voice/best.pt $(TRAIN)
	$(RUN) train_inpainter.py --data songbook-stems --preset $(PRESET) --run songs \
		--postnet save/postnet/voice/best.pt $(TRAIN)
	$(RUN) train_transcriber.py --data songbook-stems --preset $(PRESET) --run songs \
		--speech ljspeech=$(SPEECH) $(TRAIN)
	$(RUN) -c "from utils.checkpoint import export_half as export; \
		export('save/transformer/voice/best.pt', 'save/demo/transformer.pt'); \
		export('save/postnet/voice/best.pt', 'save/demo/postnet.pt'); \
		export('save/postnet/sung/best.pt', 'save/demo/source.pt'); \
		export('save/inpainter/songs/best.pt', 'save/demo/inpainter.pt'); \
		export('save/transcriber/songs/best.pt', 'save/demo/transcriber.pt')"

# Inputs that failed are kept in out/campaign. The suite runs a short version. INPUTS=2000 KILLS=150:
# so many, at most, in MINUTES.
SEED ?= 1
MINUTES ?= 10
campaign: $(VENV)/installed-dev  ## damaged inputs, kills and full disks: SEED=1 MINUTES=10
	$(RUN) -m tests.campaigns.campaign --seed $(SEED) --minutes $(MINUTES) \
		$(if $(INPUTS),--inputs $(INPUTS)) $(if $(KILLS),--kills $(KILLS)) --work out/campaign

benchmark: $(VENV)/installed  ## this machine's limits and what we reach of them
	$(RUN) benchmark.py

lint: $(VENV)/installed-dev  ## style and types alone
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy .

$(VENV)/installed: requirements.txt constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed-evaluation
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	touch $@

# Wheels alone: a judge that has none for this machine is named and left out, not compiled. Its
# tests skip by name, and evaluate.py says what it did not measure.
$(VENV)/installed-evaluation: requirements-evaluation.txt $(VENV)/installed
	@sed -e 's/ *#.*//' -e '/^-r/d' -e '/^$$/d' $< | while read -r judge; do \
		$(RUN) -m pip install --quiet --only-binary=:all: "$$judge" || \
		echo "no wheel of $$judge for this machine: what it judges is not measured"; done
	touch $@

$(VENV)/installed-songbook: requirements-songbook.txt $(VENV)/installed
	$(RUN) -m pip install --quiet -r requirements-songbook.txt
	touch $@

$(VENV)/installed-web: requirements-web.txt $(VENV)/installed
	$(RUN) -m pip install --quiet -r requirements-web.txt
	touch $@

clean:  ## the environment and what was rendered; corpora and checkpoints stay
	rm -rf $(VENV) out
