# R1 Ladder: every command. `make help` lists them.
PROFILE ?= pocket
RUN ?=
SET ?=
SEED ?=
SEEDS ?=
KILLS ?= 100
RUNS ?=
WITH ?=
STAGE ?=
VARIANT ?= auto
PROCESSES ?=
SERVERS ?=
EXTRAS ?=
PYTHON ?= python3

ladder := .venv/bin/python -m pipeline
# SERVERS=2 has the run start vLLM servers; SERVERS="http://a:8000 http://b:8000" takes those that stand.
comma := ,
blank := $(subst ,, )
urls = engine.server_urls=[$(subst $(blank),$(comma),$(strip $(SERVERS)))]
servers = engine.kind=vllm-server $(if $(findstring ://,$(SERVERS)),$(urls),engine.servers=$(SERVERS))
# SET reaches the program as one argument, whatever quotes it holds.
export LADDER_SET := $(SET)$(if $(SERVERS), $(servers))
options = --profile '$(PROFILE)' --run '$(RUN)' --set "$$LADDER_SET" $(if $(SEED),--seed '$(SEED)')
json = $(if $(JSON),--json)
processes = $(if $(PROCESSES),--processes '$(PROCESSES)')
# A run records the profile that made it: PROFILE is passed only if another one is meant.
of_run = $(if $(filter-out pocket,$(PROFILE)),--profile '$(PROFILE)') --set "$$LADDER_SET" $(if $(SEED),--seed '$(SEED)')
# The rows of the ladder's table, in their order. Here and not by Python, so that `make help` needs none.
ids := $(shell sed -n 's/^        "\([a-z0-9_]*\)", "[a-z]*",.*/\1/p' pipeline/ladder.py)
stages := $(filter-out report,$(subst _,-,$(ids)))
targets := help setup quickstart new all $(stages) report compare status check plan check-reward audit-reward claims \
           serve chaos prove-sharding prove-servers bench bench-rewards bench-grpo bench-earlier readme-figures pocket-bases export upload \
           chat lm-eval verify explain clean-run test lint audit

# A mistyped variable would change nothing, without a word. Known are those that this file reads.
given := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
known := $(if $(strip $(given)),$(patsubst $$(%),%,$(sort $(shell grep -oE '\$$\([A-Z]+\)' Makefile))))
unknown := $(firstword $(filter-out $(known) SHELL,$(given)))
ifneq ($(unknown),)
  find_near := import difflib, sys; print(*difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2:], 1))
  near := $(shell $(PYTHON) -c '$(find_near)' '$(unknown)' $(known))
  advice := $(if $(near),Did you mean $(near)?,One for the environment goes before make: $(unknown)=… make ….)
  $(error No variable $(unknown). $(advice) Variables: $(known))
endif

.DEFAULT_GOAL := help
.PHONY: $(targets) $(subst -,_,$(targets))
$(foreach target,$(targets),$(if $(findstring -,$(target)),$(eval $(subst -,_,$(target)): $(target))))

help: ## this list
	@echo "R1 Ladder. make TARGET [PROFILE=pocket] [RUN=name] [SEED=0] [SET=\"key=value …\"] [PROCESSES=8] [SERVERS=2]"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' Makefile
	@echo "  stages, each with those before it that are missing or stale:"
	@echo "    $(stages)" | fold -s -w 76 | sed '2,$$s/^/    /'

.venv/ready: requirements/install.sh requirements/install.py $(wildcard requirements/*.txt)
	@bash requirements/install.sh '$(VARIANT)'

.venv/extras/%: .venv/ready
	@bash requirements/install.sh '$(VARIANT)' '$*'

setup: ## make .venv with pinned packages (VARIANT=auto, cpu, gpu or no-vllm; EXTRAS="puzzles server")
	@bash requirements/install.sh '$(VARIANT)' '$(EXTRAS)'

new: .venv/ready ## write a profile of your own: NAME=mine [BASE= STUDENTS= DATA= EXAM= REWARD= HARDWARE= LIKE=], or it asks
	@$(ladder) new '$(NAME)' --base '$(BASE)' --students '$(STUDENTS)' --data '$(DATA)' --exam '$(EXAM)' \
	    --reward '$(REWARD)' --hardware '$(HARDWARE)' --like '$(LIKE)'

quickstart: all ## the whole ladder on the profile, from nothing to students and a report

all: .venv/ready ## every stage that is missing or stale (BUDGET=2h: sized so that all of it ends in that time)
	@$(ladder) run all $(processes) $(if $(BUDGET),--budget '$(BUDGET)') $(options)

$(stages): .venv/ready
	@$(ladder) run $@ $(processes) $(options)

report: .venv/ready ## write the report, of an unfinished run too (WITH="other runs" draws their curves over it)
	@$(ladder) report --with '$(WITH)' $(options)

compare: .venv/ready ## compare finished runs: RUNS="pocket-seed0 pocket-seed1"
	@$(ladder) compare '$(RUNS)'

status: .venv/ready ## show each stage's state: done, stale, partial or missing (JSON=1: as JSON)
	@$(ladder) status $(json) $(options)

check: .venv/ready ## check the profile and show its arithmetic before anything runs (JSON=1: as JSON)
	@$(ladder) check $(json) $(processes) $(options)

plan: .venv/ready ## what a profile takes on GPUS=64 [GPU=h100] [JSON=1]; with RUN=name, predicted beside measured
	@$(ladder) plan '$(RUN)' $(of_run) $(if $(GPUS),--gpus '$(GPUS)') $(if $(GPU),--gpu '$(GPU)') $(if $(JSON),--json)

serve: .venv/extras/server ## vLLM servers that a run's trainers hand weights to: SERVERS=2 [MODEL=r1-zero HOST=0.0.0.0 PORT=8000]
	@.venv/bin/python -m pipeline.tools.serve $(if $(MODEL),--model '$(MODEL)') $(if $(HOST),--host '$(HOST)') \
	    $(if $(PORT),--port '$(PORT)') $(options)

check-reward: .venv/ready ## try a reward: REWARD=name or file.py:name [ROWS=file.jsonl] [ARGS="key=value …"]
	@$(ladder) check-reward '$(REWARD)' $(if $(ROWS),--rows '$(ROWS)') --args '$(ARGS)'

audit-reward: .venv/ready ## how often verdicts of a run are wrong: RUN=name [SAMPLES=400] [ENDPOINT=URL MODEL=name KEYENV=VARIABLE]
	@.venv/bin/python -m pipeline.report.audit '$(RUN)' $(if $(SAMPLES),--samples '$(SAMPLES)') \
	    $(if $(ENDPOINT),--endpoint '$(ENDPOINT)') $(if $(MODEL),--model '$(MODEL)') $(if $(KEYENV),--key-env '$(KEYENV)')

claims: .venv/ready ## run the ladder with several seeds (SEEDS="0 1 2") and report which of the paper's effects hold
	@$(ladder) claims $(if $(SEEDS),--seeds '$(SEEDS)') $(options)

readme-figures: .venv/extras/dev ## write the README's table, pictures and figures from one finished run (RUN, or the profile's own)
	@.venv/bin/python -m benchmarks.readme $(options)

bench: bench-rewards bench-grpo bench-earlier ## measure the speed claims

chaos: $(if $(SERVERS),.venv/extras/server,.venv/ready) ## kill a smoke-sized run KILLS=100 times, resume it, compare it; with SERVERS=2 its servers
	@.venv/bin/python -m benchmarks.$(if $(SERVERS),chaos_servers --servers '$(SERVERS)',chaos) --kills '$(KILLS)'

prove-sharding: .venv/ready ## train in shards over two processes, and compare with one process
	@.venv/bin/python -m benchmarks.sharding

prove-servers: .venv/extras/server ## hand weights to two vLLM servers and sample through them, and compare with one process
	@.venv/bin/python -m benchmarks.servers

bench-rewards: .venv/ready ## reward scoring against TRL and math-verify one by one
	@.venv/bin/python -m benchmarks.rewards

bench-grpo: .venv/ready ## the GRPO trainer against stock TRL
	@.venv/bin/python -m benchmarks.grpo && .venv/bin/python -m benchmarks.head

bench-earlier: .venv/ready ## engine, updates, SFT and reward models against an earlier commit of this code
	@.venv/bin/python -m benchmarks.earlier

pocket-bases: .venv/ready ## pretrain the committed pocket base models again
	@$(ladder) pocket-bases

verify: .venv/ready ## hash every file of a run again (RUN, or the profile's own) and list what does not match
	@$(ladder) verify '$(RUN)' $(of_run)

explain: .venv/ready ## what made a stage or a file of it: STAGE=distill/students/qwen [RUN=name]
	@$(ladder) explain '$(RUN)' '$(STAGE)' $(of_run)

lm-eval: .venv/extras/lm-eval ## lm-evaluation-harness on a checkpoint: MODEL=distill/qwen TASKS="gsm8k ours.yaml" [LIMIT=50]
	@$(ladder) lm-eval '$(MODEL)' '$(TASKS)' $(if $(LIMIT),--limit '$(LIMIT)') $(if $(BATCH),--batch-size '$(BATCH)') \
	    $(options)

export: .venv/ready ## a checkpoint for llama.cpp and Ollama, or for the Hub: STUDENT=qwen FORMAT=gguf, hf or adapter
	@$(ladder) export '$(STUDENT)' $(if $(FORMAT),--format '$(FORMAT)') $(if $(NEWEST),--newest) $(options)

upload: .venv/ready ## send a checkpoint to the Hub: STUDENT=qwen REPO=owner/name [FORMAT=gguf] [PUBLIC=1]
	@$(ladder) upload '$(STUDENT)' '$(REPO)' $(if $(FORMAT),--format '$(FORMAT)') $(if $(PUBLIC),--public) $(if $(NEWEST),--newest) $(options)

chat: .venv/ready $(if $(filter %.gguf,$(MODEL)),.venv/extras/gguf) ## talk to a checkpoint: MODEL=general-rl, distill/qwen, file.gguf
	@$(ladder) chat '$(MODEL)' $(options)

clean-run: .venv/ready ## remove a run's folder (RUN, or the profile's own)
	@$(ladder) clean-run $(options)

audit: .venv/extras/audit ## check the pinned packages against published advisories
	@.venv/bin/python requirements/audit.py

lint: .venv/extras/dev ## check style
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .

test: .venv/extras/dev ## every test, with a whole ladder at smoke size
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder
