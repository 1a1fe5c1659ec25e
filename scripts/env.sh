# shellcheck shell=sh
# What compiling and running QEMU's programs needs; sourced after lib.sh.

# shellcheck source=scripts/lib.sh
: "${build:?lib.sh comes first}" "${cache:?}"

# Debian's own Python, and meson from below build/deps
PATH=$build/deps/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin
PYTHONPATH=$build/deps/usr/lib/python3/dist-packages
PYTHONDONTWRITEBYTECODE=1
# Shared by all clones of this user: what is compiled is the same in each, below
# another path
CCACHE_DIR=${CCACHE_DIR:-$cache/ccache}
CCACHE_BASEDIR=$build
CCACHE_NOHASHDIR=1
# ninja has the compiler write what was included: ccache needs no preprocessor of
# its own, which makes a build with an empty cache take a third longer
CCACHE_DEPEND=1
export PATH PYTHONPATH PYTHONDONTWRITEBYTECODE CCACHE_DIR CCACHE_DEPEND \
    CCACHE_BASEDIR CCACHE_NOHASHDIR

# obj_dir VERSION [VARIANT]
obj_dir() {
    echo "$build/$1/obj${2:+-$2}"
}
