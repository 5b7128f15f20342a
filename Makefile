# The commands of the README. `make help` lists them.

DESTDIR ?=
PREFIX ?= /usr
OCF_ROOT ?= /usr/lib/ocf
LIBEXECDIR = $(PREFIX)/libexec/systole
SHAREDIR = $(PREFIX)/share/systole
DOCDIR = $(PREFIX)/share/doc/systole
MANDIR = $(PREFIX)/share/man
CRMSHDIR = $(PREFIX)/share/crmsh/scripts
AGENTS = cron-singleton mysql redis
WIZARDS = $(notdir $(wildcard crm-scripts/systole-*))

CARGO ?= cargo
TARGET = $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),$(CURDIR)/target)
PACKAGES = $(TARGET)/packages
PACKAGE = $(TARGET)/systole.deb
OLD_PACKAGE = $(TARGET)/systole-old.deb
LAB = $(TARGET)/debug/systole-lab
RUNS ?= 20

# The generation of the nodes: debian12 is Pacemaker 2.1 and crmsh 4.4, debian13 is Pacemaker 3 and crmsh 5.
IMAGE ?= debian12

# What the tests in the lab have to know.
export SYSTOLE_IMAGE = $(IMAGE)
export SYSTOLE_PACKAGE = $(PACKAGE)
export SYSTOLE_OLD_PACKAGE = $(OLD_PACKAGE)
export SYSTOLE_LAB_BIN = $(LAB)

# Every target is a name and no file.
.PHONY: $(shell sed -n 's/^\([a-z][a-z-]*\):.*/\1/p' $(MAKEFILE_LIST))

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make demo        the whole site of docs/workshop.md in the rehearsal cluster, visitors, real failovers, the verdict (4 minutes)
demo: stage image-$(IMAGE)
	$(CARGO) build --quiet --locked -p cluster-scenarios --bin workshop
	$(TARGET)/debug/workshop demo

## make workshop    the same site, left running for you; prints where it is and how to end it (2 minutes)
workshop: stage image-$(IMAGE)
	$(CARGO) build --quiet --locked -p cluster-scenarios --bin workshop
	$(TARGET)/debug/workshop up

## make test        everything below up to `cluster`: what must pass before anything lands
test: check unit package-test contract snippets cluster

# The tests of a crate by their files: no plain `cargo test` runs them, so nothing else would compile all of them.
tests-of = $(foreach test,$(wildcard tests/$(1)/tests/*),--test $(basename $(notdir $(test))))

## make check       formatting, lints, documentation, all without warnings
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --locked -p contract $(call tests-of,contract) -- -D warnings
	$(CARGO) clippy --locked -p cluster-scenarios $(call tests-of,cluster) --bins -- -D warnings
	$(CARGO) clippy --locked -p snippets $(call tests-of,snippets) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet

## make unit        unit and property tests; generated files are what the declarations say
unit:
	$(CARGO) test --workspace --locked

## make package-test  the Debian package in containers of Debian 12 and 13: installed, upgraded, removed, purged
package-test: old-package image-debian12 image-debian13
	@for image in debian12 debian13; do \
	  echo "$$image" && $(LAB) sandbox --image $$image --bind $(TARGET):/mnt --bind $(CURDIR)/packaging:/packaging --env SYSTOLE_SANDBOX=1 -- \
	    /packaging/test-in-container /mnt/$(notdir $(OLD_PACKAGE)) /mnt/$(notdir $(PACKAGE)) || exit 1; \
	done

## make contract    the OCF contract, with real servers and the real ocf-tester, in containers
contract: contract-redis contract-cron contract-mysql

contract-redis: stage image-$(IMAGE)
	@echo "building the contract tests"
	@tests=$$($(call contract-test,redis)); \
	$(LAB) sandbox --image $(IMAGE) --package $(PACKAGE) --bind $$(dirname $$tests):/contract --env SYSTOLE_SANDBOX=1 -- \
	  /contract/$$(basename $$tests) --test-threads=4

# One after the other: there is one cron. One of them waits for real minutes.
contract-cron: stage image-$(IMAGE)
	@echo "building the contract tests"
	@tests=$$($(call contract-test,cron)); \
	$(LAB) sandbox --image $(IMAGE) --package $(PACKAGE) --bind $$(dirname $$tests):/contract --env SYSTOLE_SANDBOX=1 -- \
	  /contract/$$(basename $$tests) --test-threads=1

# Image and family of each server: those of `make test`, and those that `make full` adds. SERVER=debian13:mariadb for one.
SERVERS = debian12:mariadb sid:mysql
MORE_SERVERS = debian13:mariadb debian12:mysql56
SERVER ?= $(SERVERS)
contract-mysql: stage image-debian12 image-debian13 image-sid
	@echo "building the contract tests"
	@$(CARGO) build --quiet --locked -p systole-mysql --features fault-points && \
	install -D $(TARGET)/debug/systole-mysql $(TARGET)/fault-points/mysql && \
	tests=$$($(call contract-test,mysql)) && \
	for server in $(SERVER); do \
	  echo "$$server"; \
	  $(LAB) sandbox --image $${server%:*} --package $(PACKAGE) --bind $$(dirname $$tests):/contract --bind $(TARGET)/fault-points:/fault-points \
	    --env SYSTOLE_SANDBOX=1 --env SYSTOLE_SERVER=$${server#*:} -- /contract/$$(basename $$tests) --test-threads=2 $(TEST) || exit 1; \
	done

# Builds a test program and prints where it is.
contract-test = $(CARGO) test --quiet --locked -p contract --test $(1) --no-run --message-format=json \
  | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1

## make snippets    every snippet against the agents' meta-data, crm_verify and crm_simulate
snippets: stage image-debian12 image-debian13
	$(CARGO) test --locked -p snippets --test snippets

## make cluster     faults in the three-node cluster (SCENARIO=name for one, of either database)
cluster: cluster-redis cluster-haproxy cluster-balancers cluster-mysql cluster-cron cluster-workshop cluster-other

# Those of `make test`: a scenario for each kind of fault. `make full` runs all.
REDIS_SCENARIOS = kill_9_under_load_loses_no_confirmed_write valkey_under_pacemaker_3_survives_a_kill_and_a_move replication_over_tls \
  what_only_a_lost_primary_has_is_counted_and_kept_when_it_returns a_frozen_primary_is_found_by_the_monitor_and_killed \
  power_cut_of_the_primary a_primary_whose_cable_is_pulled_is_fenced without_fencing_nobody_is_promoted_beside_a_lost_primary \
  planned_moves_under_load_lose_nothing a_primary_that_lost_its_disk_wipes_nobody a_crash_right_after_the_first_replica_attached \
  moving_over_from_the_stock_agent_under_load the_stock_agent_loses_every_write_after_one_kill
cluster-redis: stage image-$(IMAGE) image-debian13
	$(if $(SCENARIO),,$(CARGO) test --locked -p lab --test three_nodes -- --ignored --test-threads=1)
	$(CARGO) test --locked -p cluster-scenarios --test redis -- --test-threads=1 --nocapture $(if $(SCENARIO),$(SCENARIO),--exact $(REDIS_SCENARIOS))

# The one of `make test`. `make full` runs all.
HAPROXY_SCENARIOS = a_crash_and_a_planned_move_through_haproxy
cluster-haproxy: stage image-$(IMAGE)
	$(CARGO) test --locked -p cluster-scenarios --test haproxy -- --test-threads=1 --nocapture $(if $(SCENARIO),$(SCENARIO),--exact $(HAPROXY_SCENARIOS))

# HAProxy and Pen in front of MariaDB: the one of `make test`. `make full` runs all.
BALANCER_SCENARIOS = a_crash_and_a_planned_move_through_haproxy
cluster-balancers: stage image-$(IMAGE)
	$(CARGO) test --locked -p cluster-scenarios --test balancers -- --test-threads=1 --nocapture $(if $(SCENARIO),$(SCENARIO),--exact $(BALANCER_SCENARIOS))

# Not of `make test`: minutes, for those who take Galera.
cluster-galera: stage image-debian12 image-debian13
	$(CARGO) test --locked -p cluster-scenarios --test galera -- --test-threads=1 --nocapture $(SCENARIO)

# Not of `make test`: minutes, for those who go over to Sentinel.
cluster-sentinel: stage image-$(IMAGE)
	$(CARGO) test --locked -p cluster-scenarios --test sentinel -- --test-threads=1 --nocapture $(SCENARIO)

# Those of `make test`. `make full` runs all.
MYSQL_SCENARIOS = crash::mariadb_kill_9_under_load crash::mysql_kill_9_under_load crash::mariadb_power_cut_of_the_primary \
  moves::mariadb_planned_moves_under_load replicas::mariadb_wrong_replication_password divergence::mysql_errant_replica
cluster-mysql: stage image-$(IMAGE) image-debian12 image-sid
	$(CARGO) test --locked -p cluster-scenarios --test mysql -- --test-threads=1 --nocapture $(if $(SCENARIO),$(SCENARIO),--exact $(MYSQL_SCENARIOS))

# Real minutes: those of `make test` are the two that say most.
CRON_SCENARIOS = a_move_in_mid_job_ends_it_as_the_drain_policy_says a_power_cut_and_a_partition_in_mid_job
cluster-cron: stage image-$(IMAGE)
	$(CARGO) test --locked -p cluster-scenarios --test cron -- --test-threads=1 --nocapture $(if $(SCENARIO),$(SCENARIO),--exact $(CRON_SCENARIOS))

# The page docs/workshop.md to the letter, and a few of its drills.
cluster-workshop: stage image-$(IMAGE)
	$(CARGO) test --locked -p cluster-scenarios --test workshop -- --nocapture three_empty_servers

# The same site by the wizard of docs/wizards.md; of `make full`.
cluster-wizard: stage image-$(IMAGE)
	$(CARGO) test --locked -p cluster-scenarios --test workshop -- --nocapture the_wizard

## make cluster-recipes  pages of docs/recipes to the letter: Galera, two nodes, three sites, the uploads, the way out (an hour; not of `make test`)
cluster-recipes: cluster-galera cluster-two-nodes cluster-sites cluster-uploads cluster-connectivity

cluster-two-nodes: stage image-debian12
	$(CARGO) test --locked -p cluster-scenarios --test two_nodes -- --test-threads=1 --nocapture $(SCENARIO)

cluster-sites: stage image-debian13
	SYSTOLE_IMAGE=debian13 $(CARGO) test --locked -p cluster-scenarios --test sites -- --test-threads=1 --nocapture $(SCENARIO)

cluster-connectivity: stage image-$(IMAGE)
	$(CARGO) test --locked -p cluster-scenarios --test connectivity -- --nocapture

cluster-uploads: stage image-debian12 image-debian12-gluster
	$(CARGO) test --locked -p cluster-scenarios --test uploads -- --test-threads=1 --nocapture $(SCENARIO)

## make endurance-cron  200 moves and 50 power cuts of the cron jobs, none doubled, none lost in silence (MOVES=, CUTS=; hours)
MOVES ?= 200
CUTS ?= 50
endurance-cron: stage image-$(IMAGE)
	SYSTOLE_MOVES=$(MOVES) SYSTOLE_CUTS=$(CUTS) $(CARGO) test --locked -p cluster-scenarios --test cron -- --ignored --nocapture endurance

# What a Debian release changes and `make test` has to see: Pacemaker 3 and crmsh 5 with every agent, MariaDB 11.8, Redis 8, and the page.
OTHER = debian13
OTHER_MYSQL = crash::mariadb_kill_9_under_load moves::mariadb_planned_moves_under_load
cluster-other: stage old-package image-$(OTHER)
	SYSTOLE_IMAGE=$(OTHER) $(CARGO) test --locked -p cluster-scenarios --test redis -- --nocapture --exact kill_9_under_load_loses_no_confirmed_write
	SYSTOLE_IMAGE=$(OTHER) $(CARGO) test --locked -p cluster-scenarios --test mysql -- --test-threads=1 --nocapture --exact $(OTHER_MYSQL)
	SYSTOLE_IMAGE=$(OTHER) $(CARGO) test --locked -p cluster-scenarios --test workshop -- --nocapture three_empty_servers

# A new version on a site that is in use, node by node.
cluster-upgrade: old-package image-$(IMAGE)
	$(CARGO) test --locked -p cluster-scenarios --test upgrade -- --nocapture

## make scenarios   every scenario on one generation of nodes (IMAGE=debian13 for the other one; an hour and a half)
ALL_SCENARIOS = --test balancers --test cron --test haproxy --test mysql --test redis --test sentinel --test upgrade --test workshop
# These servers are in one image only, whichever generation the run is for.
OWN_IMAGE = --skip ::mysql_ --skip valkey
scenarios: old-package image-$(IMAGE) $(if $(filter debian12,$(IMAGE)),image-debian13 image-sid)
	$(CARGO) build --quiet --locked -p systole-mysql --features fault-points
	install -D $(TARGET)/debug/systole-mysql $(TARGET)/fault-layer/usr/lib/ocf/resource.d/systole/mysql
	SYSTOLE_FAULT_LAYER=$(TARGET)/fault-layer $(CARGO) test --locked --no-fail-fast -p cluster-scenarios $(ALL_SCENARIOS) -- \
	  --test-threads=1 --nocapture $(if $(filter debian12,$(IMAGE)),,$(OWN_IMAGE))

## make generations every scenario on both generations of nodes, Debian 12 and 13 (three hours)
generations:
	$(MAKE) scenarios IMAGE=debian12
	$(MAKE) scenarios IMAGE=debian13

## make full        every server, every scenario on both generations, and the larger bounds of the model (hours)
full: stage image-debian12 image-debian13 image-sid
	$(MAKE) contract-mysql SERVER="$(MORE_SERVERS)"
	$(CARGO) test --release --locked -p systole-mysql -- --ignored
	$(MAKE) generations
	$(MAKE) cluster-recipes

## make bench       beside the stock agents, written to docs/benchmarks*.md (RUNS=20; hours, on a machine at rest)
bench: bench-redis bench-mysql bench-cron workshop-drills

## make bench-redis beside ocf:heartbeat:redis only
bench-redis: stage image-$(IMAGE)
	$(CARGO) build --locked --release -p cluster-scenarios --bins
	$(TARGET)/release/bench --part redis --runs $(RUNS)

## make bench-mysql beside ocf:heartbeat:mariadb and ocf:heartbeat:mysql only (GO_ON=1 goes on with an interrupted run)
bench-mysql: stage image-$(IMAGE) image-sid
	$(CARGO) build --locked --release -p cluster-scenarios --bins
	$(TARGET)/release/bench --part mysql --runs $(RUNS) $(if $(GO_ON),--go-on)

## make bench-cron  monitors and the wrapper of cron-singleton only (a minute)
bench-cron: stage image-$(IMAGE)
	$(CARGO) build --locked --release -p cluster-scenarios --bins
	$(TARGET)/release/bench --part cron

## make workshop-drills  every drill of the whole site under visitors, some DRILLS times, written to docs/benchmarks-workshop.md (20 minutes)
DRILLS ?= 5
workshop-drills: stage image-$(IMAGE)
	$(CARGO) build --locked --release -p cluster-scenarios --bins
	$(TARGET)/release/bench --part workshop --runs $(DRILLS)

## make fuzz        each parser for a minute (FUZZ_SECONDS=60); needs cargo-fuzz and a nightly toolchain
FUZZ_SECONDS ?= 60
fuzz:
	for target in $$($(CARGO) fuzz list); do \
	  $(CARGO) +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 || exit 1; done

## make msrv        builds with the compiler of Debian 13, the oldest promised
msrv: lab image-debian13-rust
	$(CARGO) fetch --locked
	$(LAB) sandbox --image debian13-rust --bind $(CURDIR):/src --bind $${CARGO_HOME:-$$HOME/.cargo}:/cargo --chdir /src \
	  --env CARGO_HOME=/cargo --env CARGO_TARGET_DIR=/tmp/target -- \
	  sh -c 'rustc --version && cargo check --workspace --all-targets --locked --offline'

## make generate    writes meta-data, man pages, parameter tables and crmsh's wizards anew from the declarations
generate:
	UPDATE=1 $(CARGO) test --locked -p generated

## make build       the agents, small and stripped
build:
	SYSTOLE_LIBEXEC=$(LIBEXECDIR) $(CARGO) build --release --locked -p pacemaker $(AGENTS:%=-p systole-%)

## make install     puts them where Pacemaker looks (DESTDIR=, PREFIX=/usr)
install: build
	install -d $(DESTDIR)$(OCF_ROOT)/resource.d/systole $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(SHAREDIR)/crm-snippets/server \
	  $(DESTDIR)$(SHAREDIR)/ocf-metadata $(DESTDIR)$(DOCDIR) $(DESTDIR)$(MANDIR)/man7 $(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(PREFIX)/sbin
	for agent in $(AGENTS); do \
	  install -m 755 $(TARGET)/release/systole-$$agent $(DESTDIR)$(OCF_ROOT)/resource.d/systole/$$agent && \
	  install -m 644 ocf-metadata/$$agent.xml $(DESTDIR)$(SHAREDIR)/ocf-metadata/ && \
	  install -m 644 docs/man/ocf_systole_$$agent.7 $(DESTDIR)$(MANDIR)/man7/ || exit 1; \
	done
	install -m 755 $(TARGET)/release/systole-cron $(DESTDIR)$(PREFIX)/sbin/
	install -m 644 docs/man/systole-cron.8 $(DESTDIR)$(MANDIR)/man8/
	install -m 755 $(TARGET)/release/systole-watch $(TARGET)/release/cron-run agents/mysql/systole-copy-mariadb $(DESTDIR)$(LIBEXECDIR)/
	install -m 644 crm-snippets/*.crm $(DESTDIR)$(SHAREDIR)/crm-snippets/
	install -m 644 crm-snippets/server/* $(DESTDIR)$(SHAREDIR)/crm-snippets/server/
	install -d $(DESTDIR)$(DOCDIR)/docs/decisions $(DESTDIR)$(DOCDIR)/docs/recipes
	for wizard in $(WIZARDS); do install -D -m 644 crm-scripts/$$wizard/main.yml $(DESTDIR)$(CRMSHDIR)/$$wizard/main.yml || exit 1; done
	install -m 644 README.md CHANGELOG.md LICENSE $(DESTDIR)$(DOCDIR)/
	install -m 644 docs/*.md $(DESTDIR)$(DOCDIR)/docs/
	install -m 644 docs/decisions/*.md $(DESTDIR)$(DOCDIR)/docs/decisions/
	install -m 644 docs/recipes/*.md $(DESTDIR)$(DOCDIR)/docs/recipes/

## make uninstall   takes them away again
uninstall:
	rm -rf $(DESTDIR)$(OCF_ROOT)/resource.d/systole $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(SHAREDIR) $(DESTDIR)$(DOCDIR) \
	  $(WIZARDS:%=$(DESTDIR)$(CRMSHDIR)/%)
	rm -f $(AGENTS:%=$(DESTDIR)$(MANDIR)/man7/ocf_systole_%.7) $(DESTDIR)$(MANDIR)/man8/systole-cron.8 $(DESTDIR)$(PREFIX)/sbin/systole-cron

# What the packages hold. The paths are those of the distributions, whatever PREFIX says.
package-tree:
	rm -rf $(PACKAGES)/tree
	$(MAKE) --no-print-directory install DESTDIR=$(PACKAGES)/tree PREFIX=/usr OCF_ROOT=/usr/lib/ocf
	gzip -9n $(PACKAGES)/tree/usr/share/man/man*/*
	packaging/notices pacemaker $(AGENTS:%=systole-%) | gzip -9n > $(PACKAGES)/tree/usr/share/doc/systole/third-party-licences.gz

## make deb         a Debian package of what `make install` installs, in target/packages
deb: package-tree
	packaging/deb $(PACKAGES)/tree $(PACKAGES)

## make rpm         the same as an RPM
rpm: package-tree
	packaging/rpm $(PACKAGES)/tree $(PACKAGES)

## make package-lint  what lintian and rpmlint say about both
package-lint: deb rpm
	packaging/lint $(PACKAGES)

# What an operator would install: the lab's nodes get it by their dpkg, and so every test has it.
stage: lab
	@echo "building the package as an operator would install it"
	@$(MAKE) --no-print-directory deb > $(TARGET)/stage.log 2>&1 || { cat $(TARGET)/stage.log; exit 1; }
	@ln -f $(PACKAGES)/systole_*.deb $(PACKAGE)

# The version before it, to be upgraded: the same files under a smaller number.
old-package: stage
	@SYSTOLE_VERSION=0.0.1 packaging/deb $(PACKAGES)/tree $(PACKAGES)/old > /dev/null
	@ln -f $(PACKAGES)/old/systole_*.deb $(OLD_PACKAGE)

lab:
	$(CARGO) build --locked -p lab

# Built once and cached outside the repository; takes half a minute.
image-%: lab
	$(LAB) image build $*

clean:
	$(CARGO) clean
