# The commands of the README. `make help` lists them.

DESTDIR ?=
PREFIX ?= /usr
OCF_ROOT ?= /usr/lib/ocf
LIBEXECDIR = $(PREFIX)/libexec/systole
SHAREDIR = $(PREFIX)/share/systole
DOCDIR = $(PREFIX)/share/doc/systole
MANDIR = $(PREFIX)/share/man/man7
AGENTS = redis
CARGO ?= cargo
TARGET = $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.PHONY: help build install uninstall

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make build       the agents, small and stripped
build:
	SYSTOLE_LIBEXEC=$(LIBEXECDIR) $(CARGO) build --release --locked -p pacemaker $(AGENTS:%=-p systole-%)

## make install     puts them where Pacemaker looks (DESTDIR=, PREFIX=/usr)
install: build
	install -d $(DESTDIR)$(OCF_ROOT)/resource.d/systole $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(SHAREDIR)/crm-snippets \
	  $(DESTDIR)$(SHAREDIR)/ocf-metadata $(DESTDIR)$(DOCDIR) $(DESTDIR)$(MANDIR)
	for agent in $(AGENTS); do \
	  install -m 755 $(TARGET)/release/systole-$$agent $(DESTDIR)$(OCF_ROOT)/resource.d/systole/$$agent && \
	  install -m 644 ocf-metadata/$$agent.xml $(DESTDIR)$(SHAREDIR)/ocf-metadata/ && \
	  install -m 644 docs/man/ocf_systole_$$agent.7 $(DESTDIR)$(MANDIR)/ || exit 1; \
	done
	install -m 755 $(TARGET)/release/systole-watch $(DESTDIR)$(LIBEXECDIR)/
	install -m 644 crm-snippets/*.crm $(DESTDIR)$(SHAREDIR)/crm-snippets/
	install -m 644 README.md CHANGELOG.md LICENSE $(DESTDIR)$(DOCDIR)/
	cp -r docs/. $(DESTDIR)$(DOCDIR)/

## make uninstall   takes them away again
uninstall:
	rm -rf $(DESTDIR)$(OCF_ROOT)/resource.d/systole $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(SHAREDIR) $(DESTDIR)$(DOCDIR)
	rm -f $(AGENTS:%=$(DESTDIR)$(MANDIR)/ocf_systole_%.7)
