# shellcheck shell=sh
# The queue: which patches, how they are applied.  Sourced after lib.sh.

: "${top:?lib.sh comes first}" "${logs:?}"

QUILT_PATCHES=$top/patches
QUILT_SERIES=$top/series
QUILTRC=/dev/null
QUILT_DIFF_ARGS='-p ab --no-timestamps --no-index'
QUILT_REFRESH_ARGS='-p ab --no-timestamps --no-index'
# with the name of the function, as git has it
QUILT_DIFF_OPTS=-p
QUILT_PAGER=
export QUILT_PATCHES QUILT_SERIES QUILTRC QUILT_DIFF_ARGS QUILT_REFRESH_ARGS \
    QUILT_DIFF_OPTS QUILT_PAGER

# shellcheck disable=SC2034 # used by those who source this
{
# Who a patch is from that says nothing else
developers='QEMU hand-over developers <hand-over@qemu.invalid>'
# The subject of a patch that has no header yet
no_subject='subsystem: what it does'
}

# queue_patches: those of the base $version.  A patch may be for "# only VERSION",
# or "# not VERSION", where the bases differ too much for one that fits both.
queue_patches() {
    awk -v v="${version:-}" '/^#/ || NF == 0 { next }
        $2 == "#" && $3 == "only" && $4 != v { next }
        $2 == "#" && $3 == "not" && $4 == v { next }
        { print $1 }' "$top/series"
}

# queue_diffs: the patches that change files of QEMU's.  The others only add files
# of ours, of which quilt knows nothing.
queue_diffs() {
    queue_patches | while read -r p; do
        ! grep -q '^--- ' "$top/patches/$p" || echo "$p"
    done
}

# queue_hash: changes with the order of the queue, with any patch, and with
# what scripts/tree keeps beside the tree (the number)
queue_hash() {
    {
        echo 2
        queue_patches
        queue_patches | while read -r p; do cat "$top/patches/$p"; done
    } | sha256sum | cut -d ' ' -f 1
}

# queue_files: the upstream files that the queue touches
queue_files() {
    queue_patches | while read -r p; do
        sed -n -E 's,^(---|\+\+\+) [ab]/([^[:space:]]+).*,\2,p' \
            "$top/patches/$p"
    done | sort -u
}

# copy_files FROM TO < LIST: those of the list that exist
copy_files() {
    while read -r f; do
        [ -e "$1/$f" ] || continue
        mkdir -p "$2/$(dirname "$f")"
        cp -p "$1/$f" "$2/$f"
    done
}

# queue_push DIR WHAT: apply the whole queue at fuzz 0
queue_push() {
    queue_diffs | grep -q . || return 0
    if [ -z "${queue_series:-}" ]; then
        queue_diffs > "$logs/series"
        QUILT_SERIES=$logs/series
    fi
    if ! (cd "$1" && quilt push -a --fuzz=0) > "$logs/quilt.log" 2>&1; then
        failed=$(sed -n 's/^Applying patch //p' "$logs/quilt.log" | tail -n 1)
        echo "${0##*/}: patch ${failed##*patches/} does not apply to $2:" >&2
        # a patch that is no patch has no hunk that could be named
        grep -E '^(patching file|Hunk #|No file|can.t find)' \
            "$logs/quilt.log" | grep -B 1 -E 'Hunk .*FAILED|find|No file' >&2 ||
            tail -n 5 "$logs/quilt.log" >&2
        for rej in $(cd "$1" && find . -name '*.rej' | sort); do
            cat "$1/$rej" >&2
        done
        die "see ${logs#"$top"/}/quilt.log"
    fi
}

# merge_edit MINE OLD YOURS TO: bring what was changed from OLD to YOURS into
# MINE.  What MINE has already is no conflict.  A file that is missing is empty.
merge_edit() {
    for _f in "$1" "$2" "$3"; do
        [ -e "$_f" ] || _f=/dev/null
        set -- "$@" "$_f"
    done
    diff3 -m -E "$5" "$6" "$7" > "$4"
}

# expected DIR TREE FILE: what FILE is in TREE (queued, ...), where the queue
# touches it, or as it came
expected() {
    if [ -e "$1/$2/$3" ] || grep -qsxF -e "$3" "$1/$2/.files"; then
        echo "$1/$2/$3"
    else
        echo "$1/pristine/$3"
    fi
}

# edits DIR: the files of QEMU's in DIR/src that are not what the queue made of
# them, as "M FILE", "D FILE" (removed) or "A FILE" (new).  Compared by content:
# times say nothing about a file that was copied there, or older than the queue.
edits() (
    cd "$1" 2>/dev/null || exit 0
    [ -d src ] && [ -d queued ] || exit 0
    LC_ALL=C
    export LC_ALL
    tmp=$(mktemp -d)
    trap 'rm -rf "$tmp"' EXIT
    sort queued/.files > "$tmp/queue" 2>/dev/null || true
    find src -type f -printf '%P\n' | sort > "$tmp/have"
    {
        find pristine -type f -printf '%P\n' | sort | comm -23 - "$tmp/queue"
        while read -r f; do
            [ ! -e "queued/$f" ] || echo "$f"
        done < "$tmp/queue"
    } | sort > "$tmp/want"
    {
        diff -rq --no-dereference pristine src |
            sed -n 's,^Files pristine/\(.*\) and src/.* differ$,\1,p'
        cat "$tmp/queue"
    } | sort -u | comm -12 - "$tmp/have" | comm -12 - "$tmp/want" |
    while read -r f; do
        cmp -s "$(expected . queued "$f")" "src/$f" || echo "M $f"
    done
    comm -13 "$tmp/have" "$tmp/want" | sed 's/^/D /'
    comm -23 "$tmp/have" "$tmp/want" |
        grep -vE '(\.(orig|rej|pyc)|~)$' | sed 's/^/A /' || true
)
