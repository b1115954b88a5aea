# Each target is one script; `make help` lists them.
.PHONY: help setup install demo psql demo-url demo-stop check test soak fuzz bench bench-accuracy clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

setup: ## install what is missing: Debian packages, cargo-pgrx, libtorch, base models
	@scripts/setup.sh

install: ## build for release and install into the system's PostgreSQL
	@scripts/install.sh

demo: setup install ## train and score real loans in a throw-away cluster that stays up
	@scripts/demo.sh start

psql: ## open psql in the demo
	@scripts/demo.sh psql

demo-url: ## print the demo's connection URI (nothing when it is down); use make -s
	@scripts/demo.sh url

demo-stop: ## stop the demo and remove its cluster
	@scripts/demo.sh stop

check: ## format, lints and quick tests
	@scripts/check.sh

test: setup install ## everything, end to end, against throw-away clusters
	@scripts/test.sh

soak: setup install ## kill, cancel and cut off trainings hundreds of times; goes on where it was
	@scripts/soak.sh

fuzz: ## search for hostile inputs: TARGET=options MINUTES=10 (fuzz/README.md lists the targets)
	@scripts/fuzz.sh

bench: setup install ## measure, and print the figures of benches/RESULTS.md
	@benches/run

bench-accuracy: setup install ## train beside LightGBM, XGBoost, CatBoost and others, and print the figures
	@benches/run peers

clean: ## remove build outputs (the cache of downloads stays)
	@scripts/clean.sh
