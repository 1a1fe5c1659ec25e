# shellcheck shell=sh
# The kernel's own tests of KVM; sourced, after host.sh.

# kvm_tests NAME...: none fails; one may say itself that it needs something else
kvm_tests() {
    _bad=
    for _t; do
        _status=0
        timeout 120 "/selftests/$_t" > /tmp/out 2>&1 || _status=$?
        case $_status in
        0) echo "$_t: ok" ;;
        4) echo "$_t: skipped: $(grep -m 1 -i skip /tmp/out)" ;;
        *)
            sed 's/^/  | /' /tmp/out
            echo "$_t: FAILED, status $_status"
            _bad="$_bad $_t"
            ;;
        esac
    done
    [ -z "$_bad" ] || fail "not passed:$_bad"
    expect_clean_dmesg
}
