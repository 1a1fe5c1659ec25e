# shellcheck shell=sh
# What all clones of this user share, below $cache (lib.sh); sourced after lib.sh.
#   download/   tarballs and Debian packages, each with a checksum that base/lock or
#               the archive's signed index says
#   built/      what is compiled of them, and is not QEMU
# A file comes there by a rename, so that clones can do so at the same time, and is
# checked each time it is used: one that is missing or broken is fetched, or made,
# again.

: "${cache:?lib.sh comes first}"

mkdir -p "$cache/download" "$cache/built"
# what was interrupted
find "$cache/download" "$cache/built" -mindepth 1 -maxdepth 1 -name '.new.*' \
    -mtime +1 -exec rm -rf {} +

# checked FILE SHA256: whether it is there, and has that checksum
checked() {
    [ -e "$1" ] && [ "$(sha256sum < "$1" | cut -d ' ' -f 1)" = "$2" ]
}

# bring LOG: have the files of stdin in $cache/download, a line "SHA256 FILE URI"
# each.  Fails if one can't be had.
bring() {
    _log=$1
    set --
    _new=$(mktemp -d "$cache/download/.new.XXXXXX")
    sort -u > "$_new/list"
    while read -r _sum _file _uri; do
        checked "$cache/download/$_file" "$_sum" ||
            set -- "$@" "$_uri" "$_new/$_file" "SHA256:$_sum"
    done < "$_new/list"
    if [ $# != 0 ]; then
        [ "$(id -u)" != 0 ] || set -- -o APT::Sandbox::User=root "$@"
        # (whether all have come is seen below)
        logged "$_log" /usr/lib/apt/apt-helper -o Acquire::Retries=3 \
            download-file "$@" || true
    fi
    _status=0
    while read -r _sum _file _uri; do
        if checked "$_new/$_file" "$_sum"; then
            mv -f "$_new/$_file" "$cache/download/$_file"
        fi
        checked "$cache/download/$_file" "$_sum" || _status=1
    done < "$_new/list"
    rm -rf "$_new"
    return "$_status"
}

# built_of WHAT...: a name for what is made of that, by this machine's compiler;
# WHAT is a file, or a word
built_of() {
    {
        gcc --version | head -n 1
        for _what; do
            if [ -e "$_what" ]; then cat "$_what"; else echo "$_what"; fi
        done
    } | sha256sum | cut -c 1-16
}
# from_built NAME FILE: FILE as it was kept; fails if it was not, or not whole: xz
# has a checksum of it
from_built() {
    if xz -dc "$cache/built/$1.xz" > "$2.new" 2>/dev/null; then
        mv "$2.new" "$2"
    else
        rm -f "$2.new"
        return 1
    fi
}
# keep_built NAME FILE
keep_built() {
    _new=$(mktemp "$cache/built/.new.XXXXXX")
    xz -1 --check=sha256 -c "$2" > "$_new"
    mv -f "$_new" "$cache/built/$1.xz"
}
