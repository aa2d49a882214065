# SPDX-License-Identifier: ISC
#
# nologd's build.  `make help` names the targets; sections in this order:
# version, packages, variants, flags, sources, rules, running, checking,
# looking for faults, installing, cleaning.
#
#   make                     build everything into build/
#   make SAN=address check   the same under ASan and UBSan, in build/asan-gcc
#   make CC=clang B=/tmp/x   another compiler, another build directory
#
# Variants are build directories, so no variant needs a `make clean`.  Your own
# CPPFLAGS, CFLAGS, LDFLAGS and LDLIBS come last and win.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
SHELL := /bin/sh

# --- Version ------------------------------------------------------------------
# The only place it is written.  In a git checkout --version also names the
# commit; in a release there is none, and the same source gives the same bytes.

VERSION  := 0.1.0
SOVERSION := 1
BUILD_ID := $(if $(wildcard .git),$(shell git --no-optional-locks \
	-c safe.directory='$(CURDIR)' describe --always --dirty --exclude '*' 2>/dev/null))
VERSION_TEXT := $(VERSION)$(if $(BUILD_ID), ($(BUILD_ID)))

# --- Packages -----------------------------------------------------------------
# Debian 12's names.  `make demo`, `check`, `lint` and `fuzz` install what is
# missing of their lists and run nothing when nothing is; a plain `make` only
# says what is missing.  Elsewhere than on Debian you are trusted to have them.

BUILD_PKGS = gcc libc6-dev pkg-config libevent-dev liblmdb-dev libsodium-dev libinih-dev \
	libseccomp-dev
CHECK_PKGS = libcmocka-dev python3 faketime openvpn openssl iproute2 e2fsprogs mount procps
LINT_PKGS  = clang clang-format clang-tidy cppcheck mandoc shellcheck python3 libcmocka-dev
FUZZ_PKGS  = clang llvm libclang-rt-dev
CI_PKGS    = valgrind git

define need
	@command -v dpkg-query >/dev/null 2>&1 || exit 0; \
	missing=; \
	for p in $(sort $(1)); do \
		case " $$(dpkg-query -W -f='$${db:Status-Status} ' "$$p" 2>/dev/null)" in \
		*' installed '*) ;; \
		*) missing="$$missing $$p" ;; \
		esac; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	as=; \
	if [ "$$(id -u)" != 0 ]; then \
		if command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then \
			as=sudo; \
		else \
			echo "nologd: install these packages first" \
				"(you are not root, and there is no sudo):$$missing" >&2; \
			exit 1; \
		fi; \
	fi; \
	echo "Installing:$$missing"; \
	$$as env DEBIAN_FRONTEND=noninteractive sh -c ' \
		apt-get update -q && apt-get install -q -y --no-install-recommends "$$@"' \
		install-packages $$missing </dev/null
endef

.PHONY: deps deps-check deps-lint deps-fuzz deps-all
deps:           ## install the packages that building needs
	$(call need,$(BUILD_PKGS))
deps-check:
	$(call need,$(BUILD_PKGS) $(CHECK_PKGS))
deps-lint:
	$(call need,$(BUILD_PKGS) $(LINT_PKGS))
deps-fuzz:
	$(call need,$(BUILD_PKGS) $(CHECK_PKGS) $(FUZZ_PKGS))
deps-all:       ## ... and those that every check below needs
	$(call need,$(BUILD_PKGS) $(CHECK_PKGS) $(LINT_PKGS) $(FUZZ_PKGS) $(CI_PKGS))

# Packages may appear while make runs, so whatever asks for them (the compiler,
# pkg-config) is asked late, or by a make of its own.
NPROC = $(eval NPROC := $(shell nproc 2>/dev/null || echo 1))$(NPROC)
SUBMAKE = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(NPROC))

# --- Variants -----------------------------------------------------------------
#   SAN=     none | address (with UBSan) | thread | fuzz (libFuzzer, clang only)
#   COV=1    coverage        HARDEN=0  no hardening      WERROR=1  warnings are errors
#   V=1      print commands  B=DIR     build directory

ifeq ($(origin CC),default)
CC := gcc
endif
AR     ?= ar
SAN    ?=
COV    ?=
HARDEN ?= 1
WERROR ?=
V      ?=

compiler := $(patsubst cc,gcc,$(notdir $(firstword $(CC))))
ifneq ($(filter-out address thread fuzz,$(SAN)),)
$(error SAN=$(SAN): there are address, thread and fuzz)
endif
B_address  = build/asan-$(compiler)
B_thread   = build/tsan-$(compiler)
B_fuzz     = build/fuzz
B_plain    = $(if $(COV),build/coverage,$(if $(filter gcc,$(compiler)),build,build/$(compiler)))
B ?= $(B_$(or $(SAN),plain))

SAN_address = -fsanitize=address,undefined -fno-sanitize-recover=all
SAN_thread  = -fsanitize=thread
SAN_fuzz    = -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all

# --- Flags --------------------------------------------------------------------

PKG_CONFIG ?= pkg-config
DAEMON_PC   = libevent_core lmdb libsodium inih libseccomp
CLIENT_PC   = libsodium
# $(call once,NAME,COMMAND): asked when first needed, and only then.
once = $(eval $(1) := $$(shell $(2)))$($(1))
daemon_cflags = $(call once,daemon_cflags,$(PKG_CONFIG) --cflags $(DAEMON_PC))
daemon_libs   = $(call once,daemon_libs,$(PKG_CONFIG) --libs $(DAEMON_PC)) -pthread
client_libs   = $(call once,client_libs,$(PKG_CONFIG) --libs $(CLIENT_PC))
cmocka_libs   = $(call once,cmocka_libs,$(PKG_CONFIG) --libs cmocka)

WARN := -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wcast-qual -Wcast-align -Wwrite-strings -Wvla -Wformat=2 -Wundef
OPT  := $(if $(SAN),-O1 -g -fno-omit-frame-pointer,$(if $(COV),-O0 -g --coverage,-O2 -g))

# What this compiler and machine do not know is left out, not fatal.
option = $(shell $(CC) -Werror $(1) -c -x c /dev/null -o /dev/null 2>/dev/null && echo '$(1)')
harden = $(eval harden := $$(call harden_of))$(harden)
harden_of = $(call option,-fstack-protector-strong) $(call option,-fstack-clash-protection) \
	$(call option,-fcf-protection) $(call option,-ftrivial-auto-var-init=zero) \
	$(if $(filter -O0,$(CFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)

# A sanitizer brings its own checks, and FORTIFY would hide what it looks for.
HARDEN_FLAGS = $(if $(SAN)$(COV)$(filter 0,$(HARDEN)),,$(harden))

std      := -std=gnu17 -D_GNU_SOURCE -Iinclude
cflags    = $(std) $(WARN) $(if $(filter 1,$(WERROR)),-Werror) $(OPT) \
	-ffile-prefix-map='$(CURDIR)'=. $(HARDEN_FLAGS) $(SAN_$(SAN)) -pthread
ldflags   = $(SAN_$(SAN)) $(if $(COV),--coverage) -Wl,--as-needed -Wl,-z,relro,-z,now
user_c    = $(CPPFLAGS) $(CFLAGS)
user_ld   = $(CFLAGS) $(LDFLAGS)

# --- Sources ------------------------------------------------------------------
# The daemon, in the order of its stations (see daemon/main.c); main.c is the
# only file that is not in libnologd.a, which the unit tests link.

DAEMON_SRC := $(wildcard $(addprefix daemon/, \
	main.c log.c notify.c config.c sandbox.c \
	server.c listen.c conn.c status.c \
	queue.c sort.c writer.c links.c sessionbook.c usagebook.c \
	sessions.c usage.c streams.c entries.c servers.c refresh.c effect.c exits.c lookup.c \
	journal.c pagecheck.c reserve.c \
	days.c day.c dayask.c dayaudit.c dayblock.c dayfile.c daykeep.c dayrun.c dayscan.c \
	dayfinish.c dayservers.c dayset.c daywait.c merge.c \
	seal.c keyring.c keyslot.c keyringfs.c \
	calendar.c clock.c))

CLIENT_SRC  := $(wildcard tools/client*.c)
CTL_SRC     := tools/nologctl.c $(wildcard tools/ctl_*.c)
OPENVPN_SRC := tools/nolog-openvpn.c $(wildcard tools/openvpn_*.c)
BENCH_SRC   := tools/nolog-bench.c $(wildcard tools/bench_*.c)
PROGRAMS    := nologd nologctl nolog-openvpn nolog-bench

# Tests are found by their names: one program a file.
UNIT_SRC    := $(wildcard tests/unit/test_*.c)
FUZZ_SRC    := $(wildcard tests/fuzz/fuzz_*.c)
TESTLIB_SRC := $(filter-out tests/lib/fuzzmain.c,$(wildcard tests/lib/*.c))
UNIT_TESTS  := $(UNIT_SRC:tests/unit/%.c=$(B)/tests/%)
FUZZERS     := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/tests/%)
SYSTEM_TESTS := $(wildcard tests/system/test_*.py)

MAN  := $(wildcard daemon/*.[1-8] include/nolog/*.[1-8] tools/*.[1-8])
C_FILES = $(wildcard daemon/*.[ch] include/nolog/*.h tools/*.[ch] tests/*/*.[ch])

objects = $(patsubst %.c,$(B)/%.o,$(1))
lib_objects   = $(filter-out $(B)/daemon/main.o,$(call objects,$(DAEMON_SRC)))
tools_objects = $(call objects,$(filter-out $(PROGRAMS:%=tools/%.c), \
	$(CTL_SRC) $(OPENVPN_SRC) $(BENCH_SRC)))
LIBS      := $(B)/libnologd.a $(B)/libnolog.a
SHLIB     := libnolog.so.$(SOVERSION)

# --- Rules --------------------------------------------------------------------

.PHONY: all programs tests fuzzers FORCE
all: programs   ## build the programs and the client library into build/
programs: $(PROGRAMS:%=$(B)/%) $(B)/libnolog.a $(B)/$(SHLIB) $(B)/nolog.pc
tests: $(UNIT_TESTS) $(FUZZERS)
fuzzers: $(FUZZERS)

say = @$(if $(V),:,printf '  %-7s %s\n' $(1) $(patsubst $(B)/%,%,$@))
Q   = $(if $(V),,@)

# Every object depends on the flags it was made with; changed flags rebuild.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@$(PKG_CONFIG) --print-errors --exists $(DAEMON_PC) || { \
		echo "nologd: libraries are missing: run 'make deps' (Debian)," \
			"or install $(DAEMON_PC)" >&2; exit 1; }
	@printf '%s\n' "$$FLAGS" | cmp -s - $@ || printf '%s\n' "$$FLAGS" >$@
$(B)/flags: export FLAGS = $(CC) $(cflags) $(user_c) | $(ldflags) $(user_ld) $(LDLIBS)

# The commit's name changes often: only what prints it depends on it.
$(B)/version: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION_TEXT)' | cmp -s - $@ || echo '$(VERSION_TEXT)' >$@
version_users := $(call objects,$(shell grep -ls NOLOG_VERSION_TEXT daemon/*.c tools/*.c))
$(version_users): $(B)/version
$(version_users): version_flag = -DNOLOG_VERSION_TEXT='"$(VERSION_TEXT)"'

# Who may include whose headers: the client library and the adapters see
# include/ only, so that they cannot come to depend on the daemon.
includes_of = $(if $(filter tests/%,$(1)),-Idaemon -Itools -Itests/lib, \
	$(if $(filter $(CTL_SRC) $(BENCH_SRC) daemon/%,$(1)),-Idaemon))
pic_of = $(if $(filter $(CLIENT_SRC),$(1)),-fPIC,-fPIE)

$(B)/%.o: %.c $(B)/flags
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(cflags) $(call pic_of,$<) $(call includes_of,$<) $(daemon_cflags) \
		$(version_flag) -MMD -MP $(user_c) -c -o $@ $<

define archive
	$(call say,AR)
	@rm -f $@
	$(Q)$(AR) rcsD $@ $(filter %.o,$^)
endef
define link
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)$(CC) -pie $(ldflags) $(link_extra) -o $@ $(filter %.o,$^) $(filter %.a,$^) \
		$(1) $(user_ld) $(LDLIBS)
endef

$(B)/libnologd.a: $(lib_objects)
	$(archive)
$(B)/libnolog.a: $(call objects,$(CLIENT_SRC))
	$(archive)
$(B)/libtools.a: $(tools_objects)
	$(archive)
$(B)/libtests.a: $(call objects,$(TESTLIB_SRC))
	$(archive)

$(B)/$(SHLIB): $(call objects,$(CLIENT_SRC)) tools/libnolog.map
	$(call say,LINK)
	$(Q)$(CC) -shared $(ldflags) -Wl,-soname,$(SHLIB) $(if $(SAN),,-Wl,-z,defs) \
		-Wl,--version-script=tools/libnolog.map -o $@ $(filter %.o,$^) $(client_libs) $(user_ld)
	@ln -sf $(SHLIB) $(B)/libnolog.so

# The programs carry the client library in themselves and need no libnolog.so.
$(B)/nologd: $(B)/daemon/main.o $(B)/libnologd.a
	$(call link,$(daemon_libs))
$(B)/nologctl: $(call objects,$(CTL_SRC)) $(LIBS)
	$(call link,$(daemon_libs))
$(B)/nolog-openvpn: $(call objects,$(OPENVPN_SRC)) $(B)/libnolog.a
	$(call link,$(client_libs) -pthread)
$(B)/nolog-bench: $(call objects,$(BENCH_SRC)) $(LIBS)
	$(call link,$(daemon_libs))

test_libs := $(B)/libtests.a $(B)/libtools.a $(LIBS)
$(UNIT_TESTS): $(B)/tests/%: $(B)/tests/unit/%.o $(test_libs)
	$(call link,$(cmocka_libs) $(daemon_libs))

# A fuzzer is libFuzzer's under SAN=fuzz, and else a test that runs its seeds.
$(FUZZERS): link_extra = $(if $(filter fuzz,$(SAN)),-fsanitize=fuzzer)
fuzz_main := $(if $(filter fuzz,$(SAN)),,$(B)/tests/lib/fuzzmain.o)
$(FUZZERS): $(B)/tests/%: $(B)/tests/fuzz/%.o $(fuzz_main) $(test_libs)
	$(call link,$(daemon_libs))

$(B)/nolog.pc: tools/nolog.pc.in Makefile
	$(call say,GEN)
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(VERSION)|' $< >$@

# Objects are kept, also those that only a test needs.
.SECONDARY:
-include $(patsubst %.c,$(B)/%.d,$(sort $(DAEMON_SRC) $(CLIENT_SRC) $(CTL_SRC) $(OPENVPN_SRC) \
	$(BENCH_SRC) $(UNIT_SRC) $(FUZZ_SRC) $(TESTLIB_SRC) tests/lib/fuzzmain.c))

# --- Running ------------------------------------------------------------------

.PHONY: help demo run bench
help:           ## this list
	@echo 'nologd $(VERSION_TEXT).  Targets:'
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## */  \1\t/p' $(MAKEFILE_LIST) | expand -t 18
	@echo 'Variables: B=DIR CC=gcc|clang SAN=address|thread WERROR=1 V=1 PREFIX= DESTDIR='
	@echo '           T="words" X="words" (only, or all but, the tests whose names have one) JOBS=2'

demo: deps      ## the five-minute tour: build, start, report, look up, forget
	+@$(SUBMAKE) programs
	@NOLOGD_BUILD='$(B)' tools/demo.sh

run: programs   ## a nologd in the foreground, its state in build/run (stop with ^C)
	@NOLOGD_BUILD='$(B)' tools/demo.sh --run

bench: programs ## session events per second, beside this machine's own limit
	@NOLOGD_BUILD='$(B)' tools/demo.sh --bench $(BENCH_ARGS)

# --- Checking -----------------------------------------------------------------
# One runner for everything (tests/run): its last line counts, and its exit
# status tells.

JOBS ?= 2
T    ?=
X    ?=
WRAP ?=
RUN_TESTS = NOLOGD_TIMEOUT=$${NOLOGD_TIMEOUT:-$(if $(SAN)$(COV)$(WRAP),4,1)} \
	tests/run --jobs '$(JOBS)' --build '$(B)' $(if $(WRAP),--wrap '$(WRAP)') \
	$(addprefix --only ,$(T)) $(addprefix --except ,$(X))

.PHONY: check check-unit check-system check-now check-unit-now check-system-now
check: deps-check       ## all tests
	+@$(SUBMAKE) check-now
check-unit: deps-check  ## the unit tests, and the fuzzers' seeds
	+@$(SUBMAKE) check-unit-now
check-system: deps-check ## the real programs, and real VPN servers
	+@$(SUBMAKE) check-system-now

check-now: programs tests
	@$(RUN_TESTS) $(SYSTEM_TESTS) $(UNIT_TESTS) $(FUZZERS)
check-unit-now: tests
	@$(RUN_TESTS) $(UNIT_TESTS) $(FUZZERS)
check-system-now: programs
	@$(RUN_TESTS) $(SYSTEM_TESTS)

.PHONY: coverage coverage-table
coverage: deps-check    ## lines that the tests reach, a file a line
	+@$(SUBMAKE) COV=1 B=build/coverage check-now
	+@$(SUBMAKE) COV=1 B=build/coverage coverage-table
coverage-table:
	@cd $(B) && for d in daemon tools; do \
		find $$d -name '*.gcda' | sort | xargs -r gcov -n -r -s '$(CURDIR)' 2>/dev/null; \
	done | awk -F"[':% ]+" ' \
		/^File/ { file = $$2 } \
		/^Lines executed/ && file ~ /\.c$$/ { \
			lines = $$NF; hit = lines * $$3 / 100; all += lines; got += hit; \
			printf "%6.1f %%  %5d  %s\n", $$3, lines, file; file = "" } \
		END { if (all) printf "%6.1f %%  %5d  in all\n", 100 * got / all, all }'

# --- Looking for faults -------------------------------------------------------

FORMAT     ?= clang-format
TIDY       ?= clang-tidy
TIDY_FILES ?= $(DAEMON_SRC) $(CLIENT_SRC) $(CTL_SRC) $(OPENVPN_SRC) $(BENCH_SRC)
SCRIPTS    := .ci/run $(wildcard tools/*.sh)
PYTHON     := tests/run $(wildcard tests/*/*.py)

.PHONY: lint lint-now lint-format lint-tidy lint-cppcheck lint-scripts format check-man
lint: deps-lint ## clang-format, clang-tidy, cppcheck, mandoc, shellcheck
	+@$(SUBMAKE) lint-now
lint-now: lint-format lint-tidy lint-cppcheck lint-scripts check-man
lint-format:
	@$(FORMAT) --dry-run -Werror $(C_FILES)
lint-tidy:
	@printf '%s\n' $(TIDY_FILES) | xargs -P $(NPROC) -n 3 sh -c ' \
		"$$0" --quiet --warnings-as-errors="*" "$$@" -- $(std) -Idaemon \
		-include tests/lib/lint.h -DNOLOG_VERSION_TEXT=\"0\" 2>&1 | \
		sed "/ warnings* generated\.$$/d; /^$$/d" >$(B)/.tidy.$$$$; \
		if [ -s $(B)/.tidy.$$$$ ]; then cat $(B)/.tidy.$$$$; rm -f $(B)/.tidy.$$$$; exit 1; fi; \
		rm -f $(B)/.tidy.$$$$' $(TIDY)
lint-tidy: | $(B)
lint-cppcheck: | $(B)
	@mkdir -p $(B)/cppcheck
	@cppcheck -q -j $(NPROC) --std=c11 --language=c --enable=warning,performance,portability \
		--inline-suppr --error-exitcode=1 --suppress=missingIncludeSystem \
		--suppress=normalCheckLevelMaxBranches --cppcheck-build-dir=$(B)/cppcheck \
		-D_GNU_SOURCE -D__linux__ -DNOLOG_VERSION_TEXT='"0"' -Iinclude -Idaemon daemon tools
lint-scripts:
	@shellcheck -x $(SCRIPTS)
	@python3 -c 'import ast, sys; [ast.parse(open(f).read(), f) for f in sys.argv[1:]]' $(PYTHON)
$(B):
	@mkdir -p $@

format:         ## rewrite the sources in the house style
	@$(FORMAT) -i $(C_FILES)

check-man:      ## mandoc finds nothing to say about the manual pages
	@mandoc -T lint -W warning $(MAN) && echo 'check-man: $(words $(MAN)) pages'

FUZZ_SECONDS ?= 10
FUZZ_FLAGS   ?=
.PHONY: fuzz fuzz-now
fuzz: deps-fuzz ## every fuzzer for FUZZ_SECONDS, with clang, ASan and UBSan
	+@$(SUBMAKE) tests
	+@$(SUBMAKE) CC=clang SAN=fuzz B=build/fuzz fuzzers
	@for f in $(FUZZERS); do \
		n=$${f##*/fuzz_}; c=build/fuzz/corpus/$$n; s=tests/fuzz/corpus/$$n; \
		mkdir -p $$c; "$$f" --write-seeds "$$c" >/dev/null || exit 1; \
		[ -d $$s ] || s=; \
		build/fuzz/tests/fuzz_$$n -max_total_time=$(FUZZ_SECONDS) -timeout=20 \
			-rss_limit_mb=2048 -artifact_prefix=build/fuzz/$$n- $(FUZZ_FLAGS) $$c $$s \
			>build/fuzz/$$n.log 2>&1 || { \
			tail -n 60 build/fuzz/$$n.log; echo "fuzz_$$n: failed" >&2; exit 1; }; \
		runs=$$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' build/fuzz/$$n.log); \
		echo "fuzz_$$n: $$runs runs, nothing found"; \
	done

# --- Installing ---------------------------------------------------------------

PREFIX     ?= /usr/local
DESTDIR    ?=
BINDIR     ?= $(PREFIX)/bin
SBINDIR    ?= $(PREFIX)/sbin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man
DOCDIR     ?= $(PREFIX)/share/doc/nologd
UNITDIR    ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d

UNITS    := $(wildcard systemd/*.service systemd/*.socket)
HEADERS  := $(wildcard include/nolog/*.h)
DOCS     := $(wildcard README.md CHANGELOG.md LICENSE systemd/*.example)

# What goes where, once: MODE FROM TO, for install and uninstall alike.
INSTALLED = \
	755 $(B)/nologd $(SBINDIR)/nologd \
	755 $(B)/nolog-openvpn $(SBINDIR)/nolog-openvpn \
	755 $(B)/nologctl $(BINDIR)/nologctl \
	755 $(B)/nolog-bench $(BINDIR)/nolog-bench \
	644 $(B)/libnolog.a $(LIBDIR)/libnolog.a \
	755 $(B)/$(SHLIB) $(LIBDIR)/$(SHLIB) \
	644 $(B)/nolog.pc $(LIBDIR)/pkgconfig/nolog.pc \
	$(foreach f,$(HEADERS),644 $(f) $(INCLUDEDIR)/nolog/$(notdir $(f))) \
	$(foreach f,$(MAN),644 $(f) $(MANDIR)/man$(patsubst .%,%,$(suffix $(f)))/$(notdir $(f))) \
	$(foreach f,$(DOCS),644 $(f) $(DOCDIR)/$(notdir $(f))) \
	644 systemd/nologd.sysusers $(SYSUSERSDIR)/nologd.conf \
	644 systemd/nologd.tmpfiles $(TMPFILESDIR)/nologd.conf

.PHONY: install uninstall check-install dist
install: programs ## below PREFIX (default /usr/local); honours DESTDIR
	@set -e; set -- $(INSTALLED); while [ $$# -gt 0 ]; do \
		install -D -m "$$1" "$$2" "$(DESTDIR)$$3"; shift 3; done
	@ln -sf $(SHLIB) "$(DESTDIR)$(LIBDIR)/libnolog.so"
	@install -d "$(DESTDIR)$(UNITDIR)"
	@set -e; for u in $(UNITS); do t="$(DESTDIR)$(UNITDIR)/$${u##*/}"; \
		sed 's|/usr/sbin/nologd|$(SBINDIR)/nologd|' "$$u" >"$$t"; chmod 644 "$$t"; done
	@echo 'nologd $(VERSION) is below $(DESTDIR)$(PREFIX)'

uninstall:      ## removes what install laid down; state and configuration stay
	@set -- $(INSTALLED); while [ $$# -gt 0 ]; do rm -f "$(DESTDIR)$$3"; shift 3; done
	@rm -f "$(DESTDIR)$(LIBDIR)/libnolog.so"
	@for u in $(UNITS); do rm -f "$(DESTDIR)$(UNITDIR)/$${u##*/}"; done
	@rmdir "$(DESTDIR)$(INCLUDEDIR)/nolog" "$(DESTDIR)$(DOCDIR)" 2>/dev/null || :

# Installs into an empty place, uses what is there (programs, units, a program
# of one's own against the installed library), uninstalls, and finds nothing left.
check-install: programs ## install, use, uninstall: nothing is left
	@set -eu; d=$$(mktemp -d); trap 'rm -rf "$$d"' EXIT; r="$$d/root"; p=/usr/local; \
	go() { $(MAKE) --no-print-directory -s B='$(B)' DESTDIR="$$r" PREFIX=$$p "$$@"; }; \
	go install >/dev/null; \
	for x in sbin/nologd sbin/nolog-openvpn bin/nologctl bin/nolog-bench; do \
		"$$r$$p/$$x" --version >/dev/null; done; \
	printf '%s\n' '#include <nolog/client.h>' '#include <stdio.h>' \
		'int main(void) { return puts(nolog_socket_name(NOLOG_ROLE_QUOTA)) < 0; }' >"$$d/use.c"; \
	pc() { PKG_CONFIG_PATH="$$r$$p/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$$r" \
		$(PKG_CONFIG) "$$@"; }; \
	$(CC) $(SAN_$(SAN)) "$$d/use.c" -o "$$d/shared" $$(pc --cflags --libs nolog); \
	[ "$$(LD_LIBRARY_PATH="$$r$$p/lib" "$$d/shared")" = quota.sock ]; \
	$(CC) $(SAN_$(SAN)) "$$d/use.c" -o "$$d/static" $$(pc --cflags nolog) \
		"$$r$$p/lib/libnolog.a" $(client_libs); \
	[ "$$("$$d/static")" = quota.sock ]; \
	grep -q "^ExecStart=$$p/sbin/nologd" "$$r$$p/lib/systemd/system/nologd.service"; \
	if command -v systemd-analyze >/dev/null 2>&1; then \
		sed "s|^ExecStart=$$p|ExecStart=$$r$$p|" -i "$$r$$p/lib/systemd/system/nologd.service"; \
		SYSTEMD_UNIT_PATH="$$r$$p/lib/systemd/system:" systemd-analyze verify --man=no \
			"$$r$$p"/lib/systemd/system/nologd*.socket "$$r$$p/lib/systemd/system/nologd.service"; \
	fi; \
	n=$$(find "$$r" ! -type d | wc -l); go uninstall; \
	[ -z "$$(find "$$r" ! -type d)" ] || { find "$$r" ! -type d; exit 1; }; \
	echo "check-install: $$n files came and went"

dist:           ## build/nologd-VERSION.tar.gz of the committed tree
	@mkdir -p build
	git archive --format=tar.gz --prefix='nologd-$(VERSION)/' -o 'build/nologd-$(VERSION).tar.gz' HEAD

# --- Cleaning -----------------------------------------------------------------

.PHONY: clean
clean:          ## remove build/ and with it every variant
	rm -rf build
