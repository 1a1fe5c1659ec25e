# shellcheck shell=sh
# shellcheck disable=SC2154 # of qemus.sh
# The guest that keeps checking its memory (tests/host/sev/tick.S): its options,
# and how far it has come; sourced, after qemus.sh.

ram=/dev/shm/ram        # the file of its memory
firmware=pflash         # or bios: how the image is given

# word N: a 64-bit number in the page that guest and host share
word() {
    dd if="$ram" bs=4096 skip=768 count=1 2>/dev/null |
        od -A n -t u8 -j $((8 * $1)) -N 8 | tr -d ' '
}

more_ticks_than() {
    [ "$(word 0)" -gt "$1" ]
}

# tick_options MACHINE IMAGE: of the guest that keeps checking its memory
tick_options() {
    cat <<X
-machine
q35,memory-backend=ram,$1
-object
memory-backend-file,id=ram,size=${memory}M,mem-path=$ram,share=on
-serial
file:/tmp/serial
X
    case $firmware in
    pflash) printf '%s\n' -drive "if=pflash,format=raw,unit=0,readonly=on,file=$2" ;;
    bios) printf '%s\n' -bios "$2" ;;
    esac
}
