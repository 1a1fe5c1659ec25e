# Thin: what is done stands in scripts/ and tests/
.POSIX:
.PHONY: help build demo demo-plain check bench refresh export lint clean distclean

# A version of base/lock, or its role there: new, old
BASE = new
# clang, asan, fuzz or pristine: another build tree
VARIANT =

help:
	@echo 'make demo       hand a SEV guest over on an emulated host, ten times'
	@echo 'make demo-plain hand a running Debian guest over, ten times'
	@echo 'make check      build, and test   [LONG=1: for some hours]'
	@echo 'make bench      compare with cpr-transfer and with precopy; cost of emulated SEV,'
	@echo '                and of nested state'
	@echo 'make build      compile   [BASE=new|old|VERSION] [VARIANT=clang|asan|fuzz|pristine]'
	@echo 'make refresh    edits of QEMU files in the build tree go into the patches'
	@echo '                [BASE=...] [PATCH=topic/name]'
	@echo 'make export     a series for "git am" under build/export  [COMPILE=1|TOPIC]'
	@echo "                [SIGNOFF='Name <mail>']"
	@echo 'make lint       shellcheck'
	@echo 'make clean      remove what was compiled; distclean: all below build/'
	@echo
	@echo 'Downloads, and what is compiled once for all clones, are kept in'
	@echo '$${XDG_CACHE_HOME:-~/.cache}/qemu-hand-over: "rm -r" removes them'

build:
	@scripts/build $(BASE) $(VARIANT)

demo:
	@tests/demo/sev

demo-plain:
	@scripts/both
	@tests/demo/run

check:
	@LONG='$(LONG)' scripts/without-kvm scripts/check

bench:
	@scripts/build new
	@tests/bench/run
	@tests/bench/sev
	@tests/bench/nested

refresh:
	@PATCH='$(PATCH)' scripts/refresh $(BASE)

export:
	@COMPILE='$(COMPILE)' SIGNOFF='$(SIGNOFF)' scripts/export $(BASE)

lint:
	@scripts/lint

clean:
	@scripts/clean

distclean:
	@scripts/clean all
