/*
 * Hand-over tests: run states, and requests that are in flight
 *
 * Whoever has the guest afterwards has it in the run state in which it was, and
 * does what was asked for before the guest stood still, once.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "pair.h"
#include "proxy.h"
#include "tests.h"
#include "wait.h"

/* Function 3 of the PIIX has its ports at 0x600, as a firmware would do it */
#define PM_PORTS \
    "o/w 0xcf8 0x80000b40", "o/w 0xcfc 0x601", \
    "o/w 0xcf8 0x80000b80", "o/b 0xcfc 1"

/* A disk whose every sector is bad, and the guest's attempt to read one */
#define BAD_DISK "-drive if=none,id=d,driver=blkdebug,image.driver=null-co," \
                 "inject-error.0.event=none " \
                 "-device ide-hd,bus=ide.0,drive=d,rerror=stop"
#define READ_SECTOR "o/b 0x1f6 0xe0", "o/b 0x1f2 1", "o/b 0x1f7 0x20"

typedef struct State {
    const char *name;       /* as query-status has it, or what is asked for */
    const char *state;      /* what it leads to, NULL: @name */
    const char *options;
    const char *hmp[8];     /* what brings the guest there */
    bool reset;             /* it is reset by that */
} State;

static const State states[] = {
    { "prelaunch", .options = "-S" },
    { "paused", .hmp = { "stop" } },
    { "shutdown", .options = "-action shutdown=pause",
      .hmp = { PM_PORTS, "o/h 0x604 0x2000" } },
    { "suspended", .hmp = { PM_PORTS, "o/h 0x604 0x2400" } },
    { "guest-panicked", .options = "-device pvpanic -action panic=pause",
      .hmp = { "o/b 0x505 1" } },
    { "watchdog", .options = "-device ib700 -action watchdog=pause",
      .hmp = { "o/b 0x443 15" } },
    { "io-error", .options = BAD_DISK, .hmp = { READ_SECTOR } },
    { "debug" },            /* debug_breakpoint() */
};

/* What is asked for while the guest stands still, and has not left */
static const State requests[] = {
    { "reset", "running", .hmp = { "o/b 0xcf9 6" }, .reset = true },
    { "shutdown", "shutdown", .options = "-action shutdown=pause",
      .hmp = { PM_PORTS, "o/h 0x604 0x2000" } },
    { "suspend", "suspended", .hmp = { PM_PORTS, "o/h 0x604 0x2400" } },
    { "stop", "io-error", .options = BAD_DISK, .hmp = { READ_SECTOR } },
};

typedef struct StateTest {
    const State *state;
    bool refused;           /* the destination refuses the guest */
} StateTest;

static void add_state_test(const char *group, const State *state,
                           void (*func)(const void *), bool refused)
{
    g_autofree char *path = g_strdup_printf("/hand-over/%s/%s%s", group,
                                            state->name,
                                            refused ? "-refused" : "");
    StateTest *test = g_new(StateTest, 1);

    *test = (StateTest) { state, refused };
    g_test_add_data_func_full(path, test, func, g_free);
}

static void rsp_send(int fd, const char *command)
{
    g_autofree char *packet = NULL;
    uint8_t sum = 0;
    char c;

    for (const char *p = command; *p; p++) {
        sum += *p;
    }
    packet = g_strdup_printf("$%s#%02x", command, sum);
    g_assert_cmpint(write(fd, packet, strlen(packet)), ==, strlen(packet));
    do {
        wait_fd(fd, POLLIN, "the gdbstub to acknowledge '%s'", command);
        g_assert_cmpint(read(fd, &c, 1), ==, 1);
    } while (c != '+');
}

/* The guest runs into a breakpoint.  Returns the debugger's connection. */
static int debug_breakpoint(Vm *vm)
{
    g_autofree char *path = tmp_path("gdb");
    g_autofree char *where = g_strdup_printf("Z0,%x,1", LOOP);
    int fd = connect_unix(path);

    g_assert_cmpint(fd, >=, 0);
    vm_wait_state(vm, "paused");
    rsp_send(fd, "?");
    rsp_send(fd, where);
    rsp_send(fd, "c");
    vm_wait_state(vm, "debug");
    return fd;
}

static void vm_hmp_lines(Vm *vm, const char *const *lines)
{
    for (; *lines; lines++) {
        g_autofree char *text = vm_hmp(vm, *lines);

        g_assert_cmpstr(text, ==, "");
    }
}

/*
 * The source's guest is handed over by a proxy, which does not pass on the
 * destination's answer if that is to refuse the guest
 */
static void state_begin(const StateTest *t, Proxy *proxy, Vm *source,
                        Vm *destination, const char *more)
{
    g_autofree char *incoming = tmp_path("incoming");
    const char *opts = t->state->options ? t->state->options : "";
    g_autofree char *source_opts = g_strdup_printf(MACHINE " %s %s", opts,
                                                   more);
    g_autofree char *dest_opts = g_strdup_printf(
        MACHINE " %s -incoming unix:%s", strcmp(opts, "-S") ? opts : "",
        incoming);

    *proxy = (Proxy) { .at = t->refused ? "loaded" : "none",
                       .action = t->refused ? REFUSE : PASS };
    unlink(incoming);
    vm_start(source, "source", source_opts);
    vm_start(destination, "destination", dest_opts);
    if (!strcmp(opts, "-S")) {
        return;
    }
    vm_assert_counts(source);
}

static void state_end(const StateTest *t, Proxy *proxy, Vm *source,
                      Vm *destination)
{
    const char *state = t->state->state ? t->state->state : t->state->name;
    Vm *here = t->refused ? source : destination;
    g_autofree char *status = NULL;

    if (t->refused) {
        proxy_wait(proxy);
        proxy_go(proxy);
    }
    status = vm_wait_migration(source);
    g_assert_cmpstr(status, ==, t->refused ? "failed" : "completed");
    if (t->refused) {
        vm_wait_exit(destination);
    }
    vm_wait_state(here, state);
    if (!strcmp(state, "running")) {
        vm_assert_counts(here);
    }
    if (!t->refused) {
        g_assert_true(vm_is_in_state(source, "postmigrate"));
    }
    g_assert_cmpuint(vm_word(here, BOOTS), ==, t->state->reset ? 2 : 1);
    vm_kill(source);
    vm_kill(destination);
    proxy_end(proxy);
}

static void test_state(const void *opaque)
{
    const StateTest *t = opaque;
    bool debug = !strcmp(t->state->name, "debug");
    g_autofree char *incoming = tmp_path("incoming");
    g_autofree char *socket = tmp_path("gdb");
    g_autofree char *gdb = g_strdup_printf("-gdb unix:%s,server=on,wait=off",
                                           socket);
    Vm source, destination;
    int debugger = -1;
    Proxy proxy;

    state_begin(t, &proxy, &source, &destination, debug ? gdb : "");
    if (debug) {
        debugger = debug_breakpoint(&source);
    }
    vm_hmp_lines(&source, t->state->hmp);
    vm_wait_state(&source, t->state->name);
    proxy_start(&proxy, incoming);
    hand_over(&source, "proxy");
    if (!strcmp(t->state->name, "prelaunch")) {
        g_autofree char *status = NULL;

        if (t->refused) {
            proxy_wait(&proxy);
            proxy_go(&proxy);
        }
        status = vm_wait_migration(&source);
        vm_wait_state(t->refused ? &source : &destination, "prelaunch");
        qobject_unref(vm_command(t->refused ? &source : &destination,
                                 "{'execute': 'cont'}"));
        vm_assert_counts(t->refused ? &source : &destination);
        vm_kill(&source);
        vm_kill(&destination);
        proxy_end(&proxy);
        return;
    }
    state_end(t, &proxy, &source, &destination);
    if (debug) {
        close(debugger);
    }
}

/* As if the guest had asked for it just before it was stopped */
static void test_request(const void *opaque)
{
    const StateTest *t = opaque;
    g_autofree char *incoming = tmp_path("incoming");
    Vm source, destination;
    Proxy proxy;

    state_begin(t, &proxy, &source, &destination, "");
    vm_set_capability(&source, "pause-before-switchover", true);
    proxy_start(&proxy, incoming);
    hand_over(&source, "proxy");
    vm_wait_pre_switchover(&source);
    vm_hmp_lines(&source, t->state->hmp);
    vm_assert_stands_still(&source);
    g_assert_cmpuint(vm_word(&source, BOOTS), ==, 1);
    vm_migrate_continue(&source);
    state_end(t, &proxy, &source, &destination);
}

/* Asked for, and then it goes by way of a QEMU that does not run it */
static void test_request_handed_on(void)
{
    g_autofree char *third_path = tmp_path("third");
    g_autofree char *third_opts = g_strdup_printf(MACHINE " -incoming unix:%s",
                                                  third_path);
    g_autofree char *status = NULL, *status2 = NULL;
    Vm source, destination, third;

    start_pair(&source, &destination, MACHINE, MACHINE " -S");
    vm_set_capability(&source, "pause-before-switchover", true);
    hand_over(&source, "incoming");
    vm_wait_pre_switchover(&source);
    g_free(vm_hmp(&source, "o/b 0xcf9 6"));
    vm_migrate_continue(&source);
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    vm_assert_stands_still(&destination);

    vm_start(&third, "third", third_opts);
    hand_over(&destination, "third");
    status2 = vm_wait_migration(&destination);
    g_assert_cmpstr(status2, ==, "completed");
    vm_kill(&source);
    vm_kill(&destination);
    vm_ok(&third, "cont");
    vm_wait_running(&third);
    vm_assert_counts(&third);
    g_assert_cmpuint(vm_word(&third, BOOTS), ==, 2);
    vm_kill(&third);
}

/* A guest that does nothing but reset itself goes on doing so */
static void test_reset_loop(void)
{
    g_autofree char *rom = tmp_path("rom-resets");
    g_autofree char *incoming = tmp_path("incoming");
    g_autofree char *opts = g_strdup_printf(MACHINE " -smp 4 -bios %s", rom);
    g_autofree char *dest_opts = g_strdup_printf("%s -incoming unix:%s", opts,
                                                 incoming);
    Vm source, destination;

    vm_start(&source, "source", opts);
    for (int i = 0; i < 5; i++) {
        g_autofree char *status = NULL;

        vm_assert_counts(&source);
        unlink(incoming);
        vm_start(&destination, "destination", dest_opts);
        hand_over(&source, "incoming");
        status = vm_wait_migration(&source);
        g_assert_cmpstr(status, ==, "completed");
        vm_wait_running(&destination);
        vm_assert_counts(&destination);
        vm_kill(&source);
        source = destination;
    }
    vm_kill(&source);
}

/* What is refused between the guest's stop and its start */
static void test_in_flight(void)
{
    static const char *const commands[] = {
        "stop", "system_reset", "system_powerdown", "inject-nmi",
    };
    /* not refused by itself, and lost if it were done now */
    g_autofree char *changed = NULL;
    g_autofree char *incoming = tmp_path("incoming");
    g_autofree char *status = NULL;
    Proxy proxy = { .at = "loaded" };
    Vm source, destination;

    start_pair(&source, &destination, MACHINE, MACHINE);
    proxy_start(&proxy, incoming);
    hand_over(&source, "proxy");
    proxy_wait(&proxy);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        vm_error(&source, commands[i], "being handed over to another QEMU");
    }
    for (size_t i = 1; i < ARRAY_SIZE(commands); i++) {
        vm_error(&destination, commands[i], "being handed over to this QEMU");
    }
    vm_error(&source, "cont", "not finalized");
    vm_error(&source, "blockdev-change-medium", "being handed over");
    changed = vm_hmp(&source, "change none");
    g_assert_nonnull(strstr(changed, "being handed over"));
    /* what no command asks for: it must not be done to the RAM of both */
    g_free(vm_hmp(&source, "o/b 0xcf9 6"));
    g_free(vm_hmp(&destination, "o/b 0xcf9 6"));
    vm_assert_stands_still(&source);
    proxy_go(&proxy);
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    vm_wait_running(&destination);
    vm_assert_counts(&destination);
    g_assert_cmpuint(vm_word(&destination, BOOTS), ==, 1);
    vm_kill(&source);
    vm_kill(&destination);
    proxy_end(&proxy);
}

void hand_over_add_state_tests(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        add_state_test("state", &states[i], test_state, false);
        add_state_test("state", &states[i], test_state, true);
    }
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        add_state_test("request", &requests[i], test_request, false);
        add_state_test("request", &requests[i], test_request, true);
    }
    g_test_add_func("/hand-over/request/reset-loop", test_reset_loop);
    g_test_add_func("/hand-over/request/in-flight", test_in_flight);
    g_test_add_func("/hand-over/request/handed-on", test_request_handed_on);
}
