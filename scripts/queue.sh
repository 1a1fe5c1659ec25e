# shellcheck shell=sh
# The queue: which patches, how they are applied.  Sourced after lib.sh.

: "${top:?lib.sh comes first}" "${logs:?}"

QUILT_PATCHES=$top/patches
QUILT_SERIES=$top/series
QUILTRC=/dev/null
QUILT_DIFF_ARGS='-p ab --no-timestamps --no-index'
QUILT_REFRESH_ARGS='-p ab --no-timestamps --no-index'
QUILT_PAGER=
export QUILT_PATCHES QUILT_SERIES QUILTRC QUILT_DIFF_ARGS QUILT_REFRESH_ARGS \
    QUILT_PAGER

queue_patches() {
    sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' "$top/series"
}

# queue_hash: changes with the order of the queue, and with any patch
queue_hash() {
    {
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
    queue_patches | grep -q . || return 0
    if ! (cd "$1" && quilt push -a --fuzz=0) > "$logs/quilt.log" 2>&1; then
        failed=$(sed -n 's/^Applying patch //p' "$logs/quilt.log" | tail -n 1)
        echo "${0##*/}: patch ${failed##*patches/} does not apply to $2:" >&2
        grep -E '^(patching file|Hunk #|No file|can.t find)' \
            "$logs/quilt.log" | grep -B 1 -E 'Hunk .*FAILED|find|No file' >&2
        for rej in $(cd "$1" && find . -name '*.rej' | sort); do
            cat "$1/$rej" >&2
        done
        die "see ${logs#"$top"/}/quilt.log"
    fi
}
