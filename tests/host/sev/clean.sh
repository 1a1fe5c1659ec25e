# shellcheck shell=sh
# What the firmware and the kernel still have of guests, for init
sev-tool status
echo 1 > /proc/sys/vm/stat_refresh
awk '/^nr_foll_pin_acquired/ { n += $2 } /^nr_foll_pin_released/ { n -= $2 }
    END { print n " pages are pinned" }' /proc/vmstat
