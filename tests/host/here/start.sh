# shellcheck shell=sh
# The first process of a scenario on this machine, in its own root directory:
# what tests/host/init is for an emulated host
export PATH=/bin HOME=/root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount --bind /options /proc/cmdline
mount -t tmpfs tmp /tmp
mount -t tmpfs tmp /dev/shm
ip link set lo up
echo "init: scenario $1"
if sh -eu "/scenarios/$1" < /dev/null; then
    echo "init: verdict ok"
else
    echo "init: verdict FAILED $(cat /tmp/reason 2>/dev/null)"
fi
