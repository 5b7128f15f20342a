# The commands of the README. `make help` lists them.

DESTDIR ?=
PREFIX ?= /usr
OCF_ROOT ?= /usr/lib/ocf
LIBEXECDIR = $(PREFIX)/libexec/systole
SHAREDIR = $(PREFIX)/share/systole
DOCDIR = $(PREFIX)/share/doc/systole
MANDIR = $(PREFIX)/share/man
COMPLETIONS = $(PREFIX)/share/bash-completion/completions/systole $(PREFIX)/share/zsh/vendor-completions/_systole \
  $(PREFIX)/share/fish/vendor_completions.d/systole.fish
CRMSHDIR = $(PREFIX)/share/crmsh/scripts
AGENTS = address cron-singleton mysql redis
WIZARDS = $(notdir $(wildcard crm-scripts/systole-*))

CARGO ?= cargo
TARGET = $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),$(CURDIR)/target)
PACKAGES = $(TARGET)/packages
PACKAGE = $(TARGET)/systole.deb
OLD_PACKAGE = $(TARGET)/systole-old.deb
LAB = $(TARGET)/debug/systole-lab
# The profile by which the package is compiled. `make test` takes cargo's dev, which has compiled most of it anyway; whatever is measured or
# shipped, and `make full`, takes the one that operators get.
PROFILE ?= release
BUILT = $(TARGET)/$(PROFILE:dev=debug)
# The tests and their tools are compiled by clippy's driver, which is the compiler with more lints: a clippy of its own would compile all crates
# once more. What is shipped or measured is not, and nobody needs clippy for a package or the rehearsal: rustup has a clippy-driver in the PATH
# also where it has not installed it, and it may be of another compiler than the one there.
ifeq ($(origin RUSTC_WORKSPACE_WRAPPER),undefined)
export RUSTC_WORKSPACE_WRAPPER := $(shell [ "$$(clippy-driver --rustc --version 2>&1)" = "$$(rustc --version 2>&1)" ] && command -v clippy-driver)
endif
PLAINLY = RUSTC_WORKSPACE_WRAPPER=
RUNS ?= 20

# The generation of the nodes: debian12 is Pacemaker 2.1 and crmsh 4.4, debian13 is Pacemaker 3 and crmsh 5.
IMAGE ?= debian12

# What the tests in the lab have to know.
export SYSTOLE_IMAGE = $(IMAGE)
export SYSTOLE_PACKAGE = $(PACKAGE)
export SYSTOLE_OLD_PACKAGE = $(OLD_PACKAGE)
export SYSTOLE_LAB_BIN = $(LAB)

# Every target is a name and no file. (Make looks for no pattern of a phony one, and cluster-% is a pattern.)
.PHONY: $(filter-out cluster-%,$(shell sed -n 's/^\([a-z][a-z-]*\):.*/\1/p' $(MAKEFILE_LIST)))

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make demo        the whole site of docs/workshop.md in the rehearsal cluster, visitors, real failovers, the verdict (5 minutes)
demo: first-time stage image/$(IMAGE)
	$(CARGO) build --quiet --locked --workspace --bin workshop
	$(TARGET)/debug/workshop demo

## make workshop    the same site, left running for you; prints where it is and how to end it (2 minutes)
workshop: first-time stage image/$(IMAGE)
	$(CARGO) build --quiet --locked --workspace --bin workshop
	$(TARGET)/debug/workshop up

# What somebody should know before minutes pass in silence.
first-time:
	@test -e $(PACKAGE) || echo "The first run compiles systole: 3 to 10 minutes, 1 GB in $(TARGET)."
	@test -e /var/cache/systole-lab || echo "It installs systemd-container, mmdebstrap, dpkg-dev and npm where they are missing, and makes an image of the" \
	  "nodes: 2 to 5 minutes, 170 MB to download, 1 GB in /var/cache/systole-lab. docs/rehearsal.md says how to undo that."

## make test        what must pass before anything lands, several steps at once (20 to 23 minutes); docs/tests.md says what is in it
# The order is that in which the steps begin: what others wait for; the agents' contract, whose own limits are real time, beside what mostly
# waits for cron's minutes; the lints, which fill what is left; what takes long, or only uses the processor; and last what is short and waits.
JOBS ?= 5
DAILY = $(subst ::,.,$(strip $(shell sed 's/\#.*//' tests/cluster/daily)))
SCENARIOS_OF_A_DAY = $(DAILY:%=cluster/%)
CRON = cluster/debian12/cron.%
REDIS = cluster/debian12/redis.%
STEPS = lab-program test-programs stage image/debian12 image/debian13 image/sid \
  $(filter $(CRON),$(SCENARIOS_OF_A_DAY)) contract/mysql contract/mariadb contract/cron-minutes contract/redis contract/cron contract/address \
  check $(filter-out $(CRON) $(REDIS),$(SCENARIOS_OF_A_DAY)) lab snippets unit $(filter $(REDIS),$(SCENARIOS_OF_A_DAY)) package-test
test:
	@tests/step --begin $(STEPS)
	@tests/step --tell & \
	$(MAKE) --no-print-directory --silent --keep-going --jobs=$(JOBS) PROFILE=dev STEP='tests/step $$@' $(STEPS) 2> $(TARGET)/test/make.log; \
	kill $$!; tests/step --end

# What each step takes, from the last run: of use only after one on a machine at rest.
durations:
	tests/step --durations > tests/durations.new && mv tests/durations.new tests/durations

# In `make test` each step is run by tests/step, which knows how the whole is getting on. What only uses the processor stands back for
# those whose agents have limits in real time.
STEP =
GENTLE = $(if $(STEP),nice -n 10)

## make check       formatting, lints, documentation, all without warnings; licences and origins of the crates
check: test-programs $(if $(STEP),stage)
	$(STEP) $(GENTLE) sh -ec '$(CARGO) fmt --all --check; \
	  tests/lints $(TEST_FEATURES); \
	  $(PLAINLY) RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet --features $(TEST_FEATURES); \
	  if command -v promtool > /dev/null; then packaging/lint-metrics; fi; \
	  if $(CARGO) deny --version > /dev/null 2>&1; then $(CARGO) deny --locked --offline check bans licenses sources; \
	  else $(CARGO) run --quiet --locked --bin supply -- check; fi'

## make audit       licences, origins and known holes of all crates, by cargo-deny and the database of RustSec (needs the network)
audit:
	$(CARGO) deny --version > /dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked check

## make monitoring  promtool on the metrics, the alerts and their tests (Prometheus from Debian; `make check` does it where promtool is)
monitoring:
	packaging/lint-metrics

## make unit        unit and property tests; generated files are what the declarations say
unit: $(if $(STEP),test-programs stage)
	$(STEP) $(GENTLE) $(CARGO) test --workspace --locked --features $(TEST_FEATURES)

# All test programs and the agent that can be killed at its fault points, by one set of features: nothing is compiled twice.
TEST_FEATURES = pacemaker/in-memory
PROGRAMS = $(TARGET)/test/programs
test-programs: lab-program
	$(STEP) tests/programs $(TARGET) $(PROGRAMS) $(TEST_FEATURES)

lab-program:
	$(STEP) $(CARGO) build --quiet --locked --workspace --bin systole-lab

# Built once and cached outside the repository.
image/%: lab-program
	$(STEP) $(LAB) image build $*

## make package-test  the Debian package in containers of Debian 12 and 13: installed, upgraded, removed, purged
package-test: stage image/debian12 image/debian13
	$(STEP) sh -ec 'for image in debian12 debian13; do \
	  echo "$$image"; $(LAB) sandbox --image $$image --bind $(TARGET):/mnt --bind $(CURDIR)/packaging:/packaging --env SYSTOLE_SANDBOX=1 -- \
	    /packaging/test-in-container /mnt/$(notdir $(OLD_PACKAGE)) /mnt/$(notdir $(PACKAGE)); \
	done'

## make contract    the OCF contract, with real servers and the real ocf-tester, in containers (TEST=name for one)
contract: contract/address contract/redis contract/cron contract/cron-minutes contract/mariadb contract/mysql

# A test program in a container: image, program, further variables and arguments.
TEST ?=
# With COUNTED (`make coverage`) the programs of the package and the tests count what of them is run, in files there.
COUNTED =
counted = $(if $(COUNTED),--bind $(COUNTED):/counted --env LLVM_PROFILE_FILE=/counted/contract-%8m%c.profraw)
in-sandbox = $(LAB) sandbox --image $(1) --package $(PACKAGE) --bind $(PROGRAMS):/contract --env SYSTOLE_SANDBOX=1 $(counted) $(3) -- \
  /contract/attempts /contract/$(2) $(4) $(TEST)

contract/address: test-programs stage image/debian12
	$(STEP) $(call in-sandbox,debian12,contract-address,,--test-threads=4)

contract/redis: test-programs stage image/$(IMAGE)
	$(STEP) $(call in-sandbox,$(IMAGE),contract-redis,,--test-threads=4)

# One after the other: there is one cron. Those that wait for cron's real minutes have a container, and so a cron, of their own.
MINUTES = jobs::cron_runs_the_jobs_where_the_resource_is catch_up::a_run_that_came_due_during_a_move_is_made_up_for_once \
  catch_up::a_run_that_comes_due_while_the_resource_is_started_is_made_up_for
contract/cron: test-programs stage image/$(IMAGE)
	$(STEP) $(call in-sandbox,$(IMAGE),contract-cron,,--test-threads=1 $(MINUTES:%=--skip %))
contract/cron-minutes: test-programs stage image/$(IMAGE)
	$(STEP) $(call in-sandbox,$(IMAGE),contract-cron,,--test-threads=1 --exact $(MINUTES))

# MariaDB 10.11 and MySQL 9.7; `make full` has MariaDB 11.8 and MySQL 5.6, 5.7 and 8.0 besides, and of MySQL 9.7 what does not
# ask which server it is.
SAME_FOR_ALL = $(strip $(shell sed 's/\#.*//' tests/contract/same-for-all))
contract/mariadb contract/mariadb-11.8 contract/mysql contract/mysql-rest contract/mysql-5.6 contract/mysql-5.7 contract/mysql-8.0: test-programs stage
contract/mariadb contract/mysql-5.6: image/debian12
contract/mysql-5.7 contract/mysql-8.0: image/debian12-mysql
contract/mariadb-11.8: image/debian13
contract/mysql contract/mysql-rest: image/sid
contract/mariadb:
	$(STEP) $(call in-sandbox,debian12,contract-mysql,--env SYSTOLE_SERVER=mariadb,--test-threads=3)
contract/mariadb-11.8:
	$(STEP) $(call in-sandbox,debian13,contract-mysql,--env SYSTOLE_SERVER=mariadb,--test-threads=3)
contract/mysql:
	$(STEP) $(call in-sandbox,sid,contract-mysql,--env SYSTOLE_SERVER=mysql,--test-threads=3 $(if $(TEST),,$(SAME_FOR_ALL:%=--skip %)))
contract/mysql-rest:
	$(STEP) $(call in-sandbox,sid,contract-mysql,--env SYSTOLE_SERVER=mysql,--test-threads=3 $(SAME_FOR_ALL))
contract/mysql-5.6:
	$(STEP) $(call in-sandbox,debian12,contract-mysql,--env SYSTOLE_SERVER=mysql56,--test-threads=3)
contract/mysql-5.7:
	$(STEP) $(call in-sandbox,debian12-mysql,contract-mysql,--env SYSTOLE_SERVER=mysql57,--test-threads=3)
contract/mysql-8.0:
	$(STEP) $(call in-sandbox,debian12-mysql,contract-mysql,--env SYSTOLE_SERVER=mysql80,--test-threads=3)

## make snippets    every snippet against the agents' meta-data, crm_verify and crm_simulate
snippets: test-programs stage image/debian12 image/debian13
	$(STEP) $(GENTLE) $(PROGRAMS)/snippets $(TEST)

## make lab         the rehearsal cluster itself
lab: test-programs image/debian12
	$(STEP) $(PROGRAMS)/three_nodes --ignored --test-threads=1

## make cluster     faults in the three-node cluster (SCENARIO=redis::power for those with that in their name, TEST_THREADS=3 for some at once)
TEST_THREADS ?= 1
SCENARIO ?=
SCENARIOS = SYSTOLE_FAULT_LAYER=$(TARGET)/test/fault-layer $(PROGRAMS)/scenarios --test-threads=$(TEST_THREADS) --nocapture
cluster: cluster-all
cluster-all: test-programs stage image/$(IMAGE)
	$(SCENARIOS) $(SCENARIO)

# make cluster-mysql, cluster-haproxy, ...: those of one file.
cluster-%: test-programs stage image/$(IMAGE)
	$(SCENARIOS) $(or $(SCENARIO),$(subst -,_,$*)::)

## make cluster-proxysql  planned moves and a crash through a ProxySQL of yours (PROXYSQL=/usr/bin/proxysql: Debian has none; 3 minutes)
PROXYSQL ?= /usr/bin/proxysql
cluster-proxysql: test-programs stage image/$(IMAGE)
	@test -x $(PROXYSQL) || { echo "there is no $(PROXYSQL): install ProxySQL from its maker, or say PROXYSQL=program" >&2; exit 1; }
	SYSTOLE_PROXYSQL=$(abspath $(PROXYSQL)) $(SCENARIOS) --ignored proxysql::

# The site of docs/workshop.md by the wizard of docs/wizards.md.
cluster-wizard: test-programs stage image/$(IMAGE)
	$(SCENARIOS) --exact workshop::the_wizard_makes_the_same_site

# They need more images, or another one.
cluster-galera cluster-mysql cluster-redis cluster-sites: image/debian12 image/debian13
cluster-mysql: image/sid image/debian12-mysql
cluster-uploads: image/debian12-gluster
cluster-sites: export SYSTOLE_IMAGE = debian13

## make upgrade-from  the upgrade of a site in use from the agents of another commit (COMMIT=; half an hour)
COMMIT ?= HEAD
upgrade-from: test-programs stage image/$(IMAGE)
	packaging/with-agents-of $(COMMIT) $(PACKAGES)/tree $(TARGET)/from
	SYSTOLE_OLD_PACKAGE=$(TARGET)/from/systole_0.0.1-1_$$(dpkg --print-architecture).deb $(SCENARIOS) upgrade::

# One scenario of `make test`, as cluster/debian13/redis.power_cut_of_the_primary. Servers that are in one image only have theirs.
# Two rules: of a rule with two patterns make takes it that one run makes both.
one-scenario = $(STEP) env SYSTOLE_IMAGE=$(word 2,$(subst /, ,$@)) $(SCENARIOS) --exact $(subst .,::,$*)
cluster/debian12/%: test-programs stage image/debian12 image/debian13 image/sid
	$(one-scenario)
cluster/debian13/%: test-programs stage image/debian12 image/debian13 image/sid
	$(one-scenario)

## make endurance-cron  200 moves and 50 power cuts of the cron jobs, none doubled, none lost in silence (MOVES=, CUTS=; hours)
MOVES ?= 200
CUTS ?= 50
endurance-cron: test-programs stage image/$(IMAGE)
	SYSTOLE_MOVES=$(MOVES) SYSTOLE_CUTS=$(CUTS) $(SCENARIOS) --ignored cron::endurance

## make cluster-recipes  pages of docs/recipes to the letter: Galera, two nodes, three sites, the uploads, the way out (an hour)
cluster-recipes:
	$(MAKE) cluster-galera
	$(MAKE) cluster-two-nodes
	$(MAKE) cluster-sites
	$(MAKE) cluster-uploads
	$(MAKE) cluster-connectivity

## make scenarios   every scenario on one generation of nodes (IMAGE=debian13 for the other one; an hour and a half)
# Servers that are in one image only run once, with Debian 12.
scenarios: test-programs stage image/$(IMAGE) $(if $(filter debian12,$(IMAGE)),image/debian13 image/sid image/debian12-mysql)
	$(SCENARIOS) address:: balancers:: command:: cron:: doctor:: haproxy:: mysql:: redis:: sentinel:: upgrade:: workshop:: \
	  $(if $(filter debian12,$(IMAGE)),,--skip ::mysql_ --skip valkey)

## make rewind-property  made-up schemas and transactions taken back by a server that is killed (CASES=2000 SEED=1; hours)
CASES ?= 2000
SEED ?= 1
rewind-property: test-programs stage image/debian12 image/debian13 image/sid
	$(call in-sandbox,debian12,contract-mysql,--env SYSTOLE_SERVER=mariadb $(MADE_UP),rewind::made_up)
	$(call in-sandbox,debian13,contract-mysql,--env SYSTOLE_SERVER=mariadb $(MADE_UP),rewind::made_up)
	$(call in-sandbox,sid,contract-mysql,--env SYSTOLE_SERVER=mysql $(MADE_UP),rewind::made_up)
MADE_UP = --env SYSTOLE_REWIND_CASES=$(CASES) --env SYSTOLE_REWIND_SEED=$(SEED)

## make soak        random faults under clients whose history is judged, written to docs/proof.md (SERVER=mariadb SEED=1 FAULTS=100; hours)
# The same command goes on where it was interrupted. SCHEDULE=3 repeats one schedule. SERVER=redis, valkey, mariadb, mysql or cron.
SERVER ?= mariadb
FAULTS ?= 100
SCHEDULE ?=
soak: stage image/$(IMAGE) $(if $(filter mysql,$(SERVER)),image/sid)
	$(CARGO) build --quiet --locked --workspace --bin soak
	$(TARGET)/debug/soak --server $(SERVER) --seed $(SEED) --faults $(FAULTS) --kept $(TARGET)/soak $(if $(SCHEDULE),--schedule $(SCHEDULE))

## make generations every scenario on both generations of nodes, Debian 12 and 13 (three hours)
generations:
	$(MAKE) scenarios IMAGE=debian12
	$(MAKE) scenarios IMAGE=debian13

## make cluster-day-two  every command of docs/day-two.md on the site of docs/workshop.md (20 minutes)
# (By the rule of cluster-%, above.)

## make full        every server, every scenario on both generations, and the larger bounds of the model (hours)
full: contract/mariadb-11.8 contract/mysql-5.6 contract/mysql-5.7 contract/mysql-8.0 contract/mysql-rest
	$(PLAINLY) $(CARGO) test --release --locked -p systole-mysql -p systole-redis -- --ignored
	$(MAKE) snippets TEST=--ignored
	$(MAKE) generations
	$(MAKE) cluster-recipes
	$(MAKE) cluster-day-two

## make bench       beside the stock agents, written to docs/benchmarks*.md (RUNS=20; hours, on a machine at rest)
bench: bench-redis bench-mysql bench-cron bench-address workshop-drills

# GO_ON=1 goes on with a run that was interrupted. ONLY=floor is one agent or part alone, printed and not written; with GO_ON=1 it
# goes into the numbers that are there.
# STOCK_RUNS=5 makes so few of the stock agents, which take a minute or two each.
GO_ON ?=
ONLY ?=
STOCK_RUNS ?= $(RUNS)
SOME = $(if $(GO_ON),--go-on) $(if $(ONLY),--only '$(ONLY)') --stock-runs $(STOCK_RUNS)

## make bench-redis beside ocf:heartbeat:redis and an agent that does nothing only (GO_ON=1 goes on with an interrupted run)
bench-redis: stage image/$(IMAGE)
	$(PLAINLY) $(CARGO) build --locked --release -p cluster-scenarios --bins
	$(TARGET)/release/bench --part redis --runs $(RUNS) $(SOME)

## make bench-mysql beside ocf:heartbeat:mariadb, ocf:heartbeat:mysql and the same only (GO_ON=1 goes on with an interrupted run)
bench-mysql: stage image/$(IMAGE) image/sid
	$(PLAINLY) $(CARGO) build --locked --release -p cluster-scenarios --bins
	$(TARGET)/release/bench --part mysql --runs $(RUNS) $(SOME)

## make bench-rewind  a lost primary that returns, by taking back and by a copy, with little and with much data (RUNS=30; hours; GO_ON=1)
bench-rewind: stage image/$(IMAGE) image/sid
	$(PLAINLY) $(CARGO) build --locked --release -p cluster-scenarios --bins
	$(TARGET)/release/bench --part rewind --runs $(RUNS) $(SOME)

## make bench-cron  monitors and the wrapper of cron-singleton only (a minute)
bench-cron: stage image/$(IMAGE)
	$(PLAINLY) $(CARGO) build --locked --release -p cluster-scenarios --bins
	$(TARGET)/release/bench --part cron

## make bench-address  an address beside ocf:heartbeat:IPaddr2 only (a minute)
bench-address: stage image/$(IMAGE)
	$(PLAINLY) $(CARGO) build --locked --release -p cluster-scenarios --bins
	$(TARGET)/release/bench --part address --runs $(RUNS)

## make workshop-drills  every drill of the whole site under visitors, some DRILLS times, written to docs/benchmarks-workshop.md (20 minutes)
# PROXY=haproxy: the site asks an HAProxy on its own node in the place of the addresses; written to $(TARGET)/haproxy.
DRILLS ?= 5
PROXY ?=
workshop-drills: export SYSTOLE_PROXY = $(PROXY)
workshop-drills: stage image/$(IMAGE)
	$(PLAINLY) $(CARGO) build --locked --release -p cluster-scenarios --bins
	$(if $(PROXY),mkdir -p $(TARGET)/$(PROXY))
	$(TARGET)/release/bench --part workshop --runs $(DRILLS) $(if $(PROXY),--out $(TARGET)/$(PROXY))

## make fuzz        made-up texts for a parser of what others wrote (TARGET=mysql_set SECONDS=60; without TARGET for each; TARGET=list lists them)
SECONDS ?= 60
# On the command line TARGET is a fuzz target; everywhere else in here it is the directory of what is compiled.
FUZZED = $(if $(filter command line,$(origin TARGET)),$(TARGET))
fuzz:
	$(PLAINLY) tests/fuzz $(SECONDS) $(FUZZED)

## make coverage    what of the programs no test runs, written to docs/coverage.md (SUITES="redis cron" of the contract tests; half an hour)
SUITES ?= redis cron
coverage: $(if $(filter mysql,$(SUITES)),image/sid) image/$(IMAGE)
	$(PLAINLY) tests/coverage/measure $(TARGET) $(TEST_FEATURES) $(SUITES)

## make mutants     changes of the pure decisions that no test notices (MUTANTS=agents/mysql/src/record.rs for one module; hours, goes on)
MUTANTS ?=
mutants:
	$(PLAINLY) tests/mutants $(TARGET) $(MUTANTS)

## make report-screenshot  a page of `systole report` in Chromium, to be looked at: $(TARGET)/report/*.png (PAGE=file for another page)
PAGE ?=
report-screenshot: image/debian13-browser
	@mkdir -p $(TARGET)/report
	$(if $(PAGE),cp $(PAGE) $(TARGET)/report/report.html,SYSTOLE_REPORT=$(TARGET)/report/report.html $(CARGO) test --locked -p systole-command --test failover)
	$(LAB) sandbox --image debian13-browser --bind $(TARGET)/report:/report --bind $(CURDIR)/tests:/tests -- /tests/screenshot /report

## make msrv        builds with the compiler of Debian 13, the oldest promised
msrv: image/debian13-rust
	$(CARGO) fetch --locked
	$(LAB) sandbox --image debian13-rust --bind $(CURDIR):/src --bind $${CARGO_HOME:-$$HOME/.cargo}:/cargo --chdir /src \
	  --env CARGO_HOME=/cargo --env CARGO_TARGET_DIR=/tmp/target -- \
	  sh -c 'rustc --version && cargo check --workspace --all-targets --locked --offline'

## make generate    writes meta-data, man pages, parameter tables and crmsh's wizards anew from the declarations, the benchmarks' pages from their numbers
generate:
	UPDATE=1 $(CARGO) test --locked -p generated
	UPDATE=1 $(CARGO) test --locked -p cluster-scenarios --lib figures::

## make build       the agents, small and stripped
# The usual place is built in. Naming it all the same would have cargo compile once more what the tests have compiled, and so would other
# features of the dependencies, which those of the whole workspace are: what is shipped has its own only.
SHIPPED = $(AGENTS:%=systole-%) systole systole-cron cron-run systole-watch
build:
	$(if $(filter-out /usr/libexec/systole,$(LIBEXECDIR)),SYSTOLE_LIBEXEC=$(LIBEXECDIR)) $(if $(filter-out dev,$(PROFILE)),$(PLAINLY)) $(CARGO) build --profile $(PROFILE) --locked \
	  $(if $(filter dev,$(PROFILE)),--workspace --features $(TEST_FEATURES) $(SHIPPED:%=--bin %),-p pacemaker -p systole-command $(AGENTS:%=-p systole-%))

# The dev profile leaves in the programs what the other strips, and would make a package of 60 MB.
PROGRAM = install -m 755 $(if $(filter dev,$(PROFILE)),--strip)

## make install     puts them where Pacemaker looks (DESTDIR=, PREFIX=/usr)
install: build
	install -d $(DESTDIR)$(OCF_ROOT)/resource.d/systole $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(SHAREDIR)/crm-snippets/server \
	  $(DESTDIR)$(SHAREDIR)/ocf-metadata $(DESTDIR)$(DOCDIR) $(DESTDIR)$(MANDIR)/man7 $(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(PREFIX)/sbin
	for agent in $(AGENTS); do \
	  $(PROGRAM) $(BUILT)/systole-$$agent $(DESTDIR)$(OCF_ROOT)/resource.d/systole/$$agent && \
	  install -m 644 ocf-metadata/$$agent.xml $(DESTDIR)$(SHAREDIR)/ocf-metadata/ && \
	  install -m 644 docs/man/ocf_systole_$$agent.7 $(DESTDIR)$(MANDIR)/man7/ || exit 1; \
	done
	$(PROGRAM) $(BUILT)/systole $(BUILT)/systole-cron $(DESTDIR)$(PREFIX)/sbin/
	install -m 644 docs/man/systole.8 docs/man/systole-cron.8 $(DESTDIR)$(MANDIR)/man8/
	for file in $(COMPLETIONS); do \
	  case $$file in *.fish) shell=fish ;; */zsh/*) shell=zsh ;; *) shell=bash ;; esac; \
	  install -d $(DESTDIR)$${file%/*} && $(BUILT)/systole completions $$shell > $(DESTDIR)$$file && chmod 644 $(DESTDIR)$$file || exit 1; \
	done
	install -D -m 644 packaging/tmpfiles.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/systole.conf
	$(PROGRAM) $(BUILT)/systole-watch $(BUILT)/cron-run $(DESTDIR)$(LIBEXECDIR)/
	install -m 755 agents/mysql/systole-copy-mariadb agents/mysql/systole-send-backup $(DESTDIR)$(LIBEXECDIR)/
	install -m 644 crm-snippets/*.crm $(DESTDIR)$(SHAREDIR)/crm-snippets/
	install -m 644 crm-snippets/server/* $(DESTDIR)$(SHAREDIR)/crm-snippets/server/
	install -d $(DESTDIR)$(DOCDIR)/docs/decisions $(DESTDIR)$(DOCDIR)/docs/recipes $(DESTDIR)$(DOCDIR)/docs/monitoring
	for wizard in $(WIZARDS); do install -D -m 644 crm-scripts/$$wizard/main.yml $(DESTDIR)$(CRMSHDIR)/$$wizard/main.yml || exit 1; done
	install -m 644 README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE $(DESTDIR)$(DOCDIR)/
	install -m 644 docs/*.md docs/*.svg $(DESTDIR)$(DOCDIR)/docs/
	install -m 644 docs/decisions/*.md $(DESTDIR)$(DOCDIR)/docs/decisions/
	install -m 644 docs/recipes/*.md $(DESTDIR)$(DOCDIR)/docs/recipes/
	install -m 644 docs/monitoring/systole.rules.yml docs/monitoring/grafana.json $(DESTDIR)$(DOCDIR)/docs/monitoring/

## make uninstall   takes them away again
uninstall:
	rm -rf $(DESTDIR)$(OCF_ROOT)/resource.d/systole $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(SHAREDIR) $(DESTDIR)$(DOCDIR) \
	  $(WIZARDS:%=$(DESTDIR)$(CRMSHDIR)/%)
	rm -f $(AGENTS:%=$(DESTDIR)$(MANDIR)/man7/ocf_systole_%.7) $(DESTDIR)$(MANDIR)/man8/systole-cron.8 $(DESTDIR)$(PREFIX)/sbin/systole-cron \
	  $(DESTDIR)$(MANDIR)/man8/systole.8 $(DESTDIR)$(PREFIX)/sbin/systole $(COMPLETIONS:%=$(DESTDIR)%) \
	  $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/systole.conf

# What the packages hold. The paths are those of the distributions, whatever PREFIX says.
package-tree:
	rm -rf $(PACKAGES)/tree
	$(MAKE) --no-print-directory install DESTDIR=$(PACKAGES)/tree PREFIX=/usr OCF_ROOT=/usr/lib/ocf
	gzip -9n $(PACKAGES)/tree/usr/share/man/man*/*
	CARGO="$(CARGO)" PROFILE=$(PROFILE) packaging/documents $(PACKAGES)/tree pacemaker systole-command $(AGENTS:%=systole-%)

## make deb         a Debian package of what `make install` installs, in target/packages
deb: package-tree
	packaging/deb $(PACKAGES)/tree $(PACKAGES)

## make rpm         the same as an RPM
rpm: package-tree
	packaging/rpm $(PACKAGES)/tree $(PACKAGES)

## make package-lint  what lintian and rpmlint say about both
package-lint: deb rpm
	packaging/lint $(PACKAGES)

# What an operator would install: the lab's nodes get it by their dpkg, and so every test has it. The old one is the version before it, to
# be upgraded: the same files under a smaller number.
# Beside the test programs it would put the agents without their fault points where those are taken from.
stage: $(if $(filter dev,$(PROFILE)),test-programs)
	$(if $(STEP),,@echo "building the package as an operator would install it; target/stage.log has the words")
	@mkdir -p $(TARGET)
	@$(STEP) sh -c '{ $(MAKE) --no-print-directory deb && SYSTOLE_VERSION=0.0.1 packaging/deb $(PACKAGES)/tree $(PACKAGES)/old; } \
	  > $(TARGET)/stage.log 2>&1 || { cat $(TARGET)/stage.log; exit 1; }'
	@ln -f $(PACKAGES)/systole_*.deb $(PACKAGE)
	@ln -f $(PACKAGES)/old/systole_*.deb $(OLD_PACKAGE)

clean:
	$(CARGO) clean
