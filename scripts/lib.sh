# shellcheck shell=sh
# Functions that the scripts share; sourced, not run.
#
# Everything that is made goes below build/:
#   build/apt/        private apt state          build/logs/   logs of commands
#   build/deps/       unpacked Debian packages
#   build/VERSION/    a base: src (compiled from), obj (compiled into)
# and what is fetched, or serves other clones as well, below the user's $cache
# (cache.sh; the compiler cache: env.sh).

top=$(cd "$(dirname "$0")/.." && pwd)
while [ ! -e "$top/base/lock" ] && [ "$top" != / ]; do
    top=$(dirname "$top")
done
build=$top/build
logs=$build/logs
mkdir -p "$logs"

# XDG_CACHE_HOME counts if it is absolute.  A user without a home has what is the
# clone's own.
case ${XDG_CACHE_HOME:-} in
/*) cache=$XDG_CACHE_HOME/qemu-hand-over ;;
*) cache=${HOME:-/nonexistent}/.cache/qemu-hand-over ;;
esac
if ! mkdir -p "$cache" 2>/dev/null || [ ! -w "$cache" ]; then
    cache=$build/cache
    mkdir -p "$cache"
fi

say() {
    echo "$*"
}

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# lock_build: one script at a time makes what is below build/, and those that it
# calls; the others wait here.  Until unlock_build, or the script's end.
lock_build() {
    if [ -z "${BUILD_IS_LOCKED:-}" ]; then
        exec 9> "$build/lock"
        flock -n 9 || {
            say "waiting for another script that makes something below build/"
            flock 9
        }
        export BUILD_IS_LOCKED=1
    fi
}
unlock_build() {
    exec 9>&-
    unset BUILD_IS_LOCKED
}

# log_tail LOG: what went wrong, and where to read on
log_tail() {
    tail -n 20 "$1" >&2
    echo "${0##*/}: see ${1#"$top"/}" >&2
}

# logged NAME COMMAND...: run it with its output in build/logs/NAME.log, and
# show that it goes on: the last line that matches $progress_re, every 15
# seconds (every second on a terminal).
progress_re=.
logged() {
    _log=$logs/$1.log
    _name=$1
    shift
    : > "$_log"
    "$@" > "$_log" 2>&1 < /dev/null &
    _pid=$!
    show_progress "$_name" "$_log" "$_pid" &
    _shown=$!
    _status=0
    wait "$_pid" || _status=$?
    kill "$_shown" 2>/dev/null || true
    wait "$_shown" 2>/dev/null || true
    [ ! -t 1 ] || printf '\r\033[K'
    [ "$_status" = 0 ] || log_tail "$_log"
    return "$_status"
}
# show_progress NAME LOG PID: while that runs, or until this is killed
show_progress() {
    _n=0
    _every=15
    [ ! -t 1 ] || _every=1
    # (a variable for the sleep would be set too late: TERM can come as it starts)
    _inherited=$!
    trap '[ "$!" = "$_inherited" ] || kill "$!" 2>/dev/null; exit' TERM
    while kill -0 "$3" 2>/dev/null; do
        # (killed before it is that program it goes on: it keeps nothing open,
        # neither lock_build nor a pipe that somebody reads to its end)
        sleep "$_every" > /dev/null 2>&1 9>&- &
        wait "$!"
        _n=$((_n + _every))
        _line=$(grep -E "$progress_re" "$2" | tail -n 1 | cut -c 1-70)
        if [ -t 1 ]; then
            printf '\r\033[K%s: %ss %s' "$1" "$_n" "$_line"
        else
            say "$1: ${_n}s $_line"
        fi
    done
}

# need WHAT-FOR PACKAGE...: Debian packages that must be installed
need() {
    _why=$1
    shift
    _missing=
    for _p in "$@"; do
        _s=$(dpkg-query -W -f '${db:Status-Status}' "$_p" 2>/dev/null) || _s=
        [ "$_s" = installed ] || _missing="$_missing $_p"
    done
    [ -n "$_missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        die "$_why needs packages; as root: apt install$_missing"
    fi
    say "installing for $_why:$_missing"
    # shellcheck disable=SC2086 # a list of words
    if ! logged apt-install env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends $_missing; then
        # the machine's package lists may be missing, or too old
        logged apt-update apt-get update
        # shellcheck disable=SC2086
        logged apt-install env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends $_missing ||
            die "cannot install$_missing"
    fi
}

# lock_field ROLE-OR-VERSION COLUMN: a column of base/lock
lock_field() {
    awk -F '\t' -v want="$1" -v col="$2" \
        '$0 !~ /^#/ && ($1 == want || $2 == want) { print $col; exit }' \
        "$top/base/lock"
}

# base_version ROLE-OR-VERSION: the version that is used for it
base_version() {
    _v=$(lock_field "$1" 2)
    [ -n "$_v" ] || die "no base '$1' in base/lock"
    # another one was taken where the locked one is gone, see scripts/fetch
    if [ -e "$build/apt/instead-of-$_v" ]; then
        awk '{ print $1 }' "$build/apt/instead-of-$_v"
    else
        echo "$_v"
    fi
}

# base_tarball VERSION: its path
base_tarball() {
    _f=$(lock_field "$1" 4)
    [ -n "$_f" ] || _f=$(cat "$build/apt/instead-of-"* | awk -v v="$1" '$1 == v { print $3; exit }')
    echo "$cache/download/$_f"
}

# our_files: the files of the queue that are linked into QEMU's tree
our_dirs='accel backends chardev hw include io migration monitor net qapi
          stubs system target util tests/unit tests/qtest docs/devel docs/system'
our_files() {
    for _d in $our_dirs; do
        [ -d "$top/$_d" ] && (cd "$top" && find "$_d" -type f \
            ! -name '*.pyc' ! -name '*~' ! -name '.*')
    done | sort
}
