/*
 * Hand-over tests: a QEMU, its monitor, and the guest that it runs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include "qapi/error.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "libqmp.h"
#include "vm.h"
#include "wait.h"

static char *tmpdir;
static const char *qemu_binary;

void vm_init(void)
{
    qemu_binary = getenv("QTEST_QEMU_BINARY");
    g_assert_nonnull(qemu_binary);
    tmpdir = g_dir_make_tmp("hand-over-test-XXXXXX", NULL);
    g_assert_nonnull(tmpdir);
}

void vm_cleanup(void)
{
    g_autoptr(GDir) dir = g_dir_open(tmpdir, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = tmp_path(name);

        unlink(path);
    }
    rmdir(tmpdir);
    g_free(tmpdir);
}

char *tmp_path(const char *name)
{
    return g_strdup_printf("%s/%s", tmpdir, name);
}

/*
 * UNIX sockets
 */

int connect_unix(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = WAIT_SECONDS };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(strlen(path), <, sizeof(addr.sun_path));
    strcpy(addr.sun_path, path);
    /* connecting waits while the listener's backlog is full */
    g_assert_cmpint(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit,
                               sizeof(limit)), ==, 0);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        if (errno == EAGAIN) {
            wait_failed(WAIT_SECONDS, "a connection to %s", path);
        }
        close(fd);
        return -1;
    }
    return fd;
}

int listen_unix(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    strcpy(addr.sun_path, path);
    unlink(path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

/*
 * The process
 */

/* A test that fails must not leave a QEMU behind */
static void vm_child_setup(void *opaque)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* The next line from the monitor; @question is what it should answer */
static QDict *vm_receive(Vm *vm, const char *question)
{
    g_autofree char *line = NULL;
    char *end;

    while (!(end = memchr(vm->input->str, '\n', vm->input->len))) {
        char buf[4096];
        ssize_t len;

        wait_fd(vm->qmp, POLLIN, "QEMU '%s' to answer %s", vm->name, question);
        len = read(vm->qmp, buf, sizeof(buf));
        if (len <= 0) {
            g_error("QEMU '%s' closed its monitor, and did not answer %s",
                    vm->name, question);
        }
        g_string_append_len(vm->input, buf, len);
    }
    line = g_strndup(vm->input->str, end - vm->input->str);
    g_string_erase(vm->input, 0, end + 1 - vm->input->str);
    if (getenv("QTEST_LOG")) {
        fprintf(stderr, "%s\n", line);
    }
    return qobject_to(QDict, qobject_from_json(line, &error_abort));
}

/* The monitor is a socket that this process listens on: nothing to wait for */
void vm_start(Vm *vm, const char *name, const char *extra)
{
    g_autofree char *qmp_path = g_strdup_printf("%s/%s.qmp", tmpdir, name);
    g_autofree char *rom = tmp_path("rom");
    g_autofree char *cmdline = g_strdup_printf(
        "%s -nodefaults -display none -accel tcg -bios %s "
        "-chardev socket,id=qmp,path=%s -mon qmp,mode=control %s",
        qemu_binary, rom, qmp_path, extra);
    int listener = listen_unix(qmp_path);
    g_auto(GStrv) argv = NULL;
    GError *err = NULL;
    QDict *resp;

    g_shell_parse_argv(cmdline, NULL, &argv, &err);
    g_assert_no_error(err);
    g_spawn_async(NULL, argv, NULL,
                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
                  (getenv("QTEST_LOG") ? 0 : G_SPAWN_STDERR_TO_DEV_NULL),
                  vm_child_setup, NULL, &vm->pid, &err);
    g_assert_no_error(err);

    vm->name = name;
    vm->input = g_string_new(NULL);
    wait_fd(listener, POLLIN, "QEMU '%s' to start", name);
    vm->qmp = accept(listener, NULL, NULL);
    g_assert_cmpint(vm->qmp, >=, 0);
    close(listener);

    resp = vm_receive(vm, "a connection");
    g_assert(qdict_haskey(resp, "QMP"));
    qobject_unref(resp);
    /* (events may come before it is answered) */
    qobject_unref(vm_command(vm, "{'execute': 'qmp_capabilities'}"));
}

int vm_wait_exit(Vm *vm)
{
    int64_t end = wait_until();
    int status;
    pid_t pid;

    while (!(pid = waitpid(vm->pid, &status, WNOHANG))) {
        wait_check(end, "QEMU '%s' to end", vm->name);
        g_usleep(1000);
    }
    g_assert_cmpint(pid, ==, vm->pid);
    close(vm->qmp);
    g_string_free(vm->input, true);
    vm->pid = 0;
    return status;
}

void vm_kill(Vm *vm)
{
    if (vm->pid) {
        kill(vm->pid, SIGKILL);
        vm_wait_exit(vm);
    }
}

unsigned vm_descriptors(Vm *vm)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", vm->pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned n = 0;

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

/*
 * The monitor
 */

QDict *vm_command(Vm *vm, const char *fmt, ...)
{
    g_autoptr(GString) question = NULL;
    QObject *command;
    va_list ap;
    QDict *resp;

    va_start(ap, fmt);
    command = qobject_from_vjsonf_nofail(fmt, ap);
    va_end(ap);
    question = qobject_to_json(command);
    qobject_unref(command);
    qmp_fd_send_raw(vm->qmp, "%s\n", question->str);
    for (;;) {
        resp = vm_receive(vm, question->str);
        if (!qdict_haskey(resp, "event")) {
            break;
        }
        qobject_unref(resp);
    }
    if (qdict_haskey(resp, "return") && qdict_get_qdict(resp, "return")) {
        QDict *ret = qdict_get_qdict(resp, "return");

        qobject_ref(ret);
        qobject_unref(resp);
        return ret;
    }
    return resp;
}

bool vm_is_running(Vm *vm)
{
    QDict *status = vm_command(vm, "{'execute': 'query-status'}");
    bool running = qdict_get_bool(status, "running");

    qobject_unref(status);
    return running;
}

char *vm_hmp(Vm *vm, const char *line)
{
    QDict *resp = vm_command(vm, "{'execute': 'human-monitor-command',"
                             " 'arguments': {'command-line': %s}}", line);
    char *text = g_strdup(qdict_get_str(resp, "return"));

    qobject_unref(resp);
    return text;
}

void vm_error(Vm *vm, const char *command, const char *words)
{
    QDict *resp = vm_command(vm, "{'execute': %s}", command);

    g_assert_true(qdict_haskey(resp, "error"));
    g_assert_nonnull(strstr(qdict_get_str(qdict_get_qdict(resp, "error"),
                                          "desc"), words));
    qobject_unref(resp);
}

void vm_ok(Vm *vm, const char *command)
{
    QDict *resp = vm_command(vm, "{'execute': %s}", command);

    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
}

/*
 * Run states, and the guest
 */

bool vm_is_in_state(Vm *vm, const char *state)
{
    QDict *status = vm_command(vm, "{'execute': 'query-status'}");
    bool is = !strcmp(qdict_get_str(status, "status"), state);

    qobject_unref(status);
    return is;
}

void vm_wait_state(Vm *vm, const char *state)
{
    int64_t end = wait_until();

    while (!vm_is_in_state(vm, state)) {
        wait_check(end, "QEMU '%s' to be in the state '%s'", vm->name, state);
    }
}

void vm_wait_running(Vm *vm)
{
    int64_t end = wait_until();

    while (!vm_is_running(vm)) {
        /* each turn is a round trip to QEMU's main loop */
        wait_check(end, "QEMU '%s' to let its guest run", vm->name);
    }
}

uint32_t vm_word(Vm *vm, unsigned address)
{
    g_autofree char *line = g_strdup_printf("xp /1wx 0x%x", address);
    g_autofree char *text = vm_hmp(vm, line);

    return g_ascii_strtoull(strstr(text, ": ") + 2, NULL, 16);
}

uint32_t vm_counter(Vm *vm)
{
    return vm_word(vm, COUNTER);
}

void vm_assert_counts(Vm *vm)
{
    int64_t end = wait_until();
    uint32_t before = vm_counter(vm);

    /* a migration has failed before the guest is started again */
    vm_wait_running(vm);
    while (vm_counter(vm) == before) {
        /* each turn asks QEMU, and gives the guest time to run */
        wait_check(end, "the guest of QEMU '%s' to make progress", vm->name);
    }
}

void vm_assert_stands_still(Vm *vm)
{
    uint32_t before = vm_counter(vm);

    g_assert_false(vm_is_running(vm));
    g_assert_cmpuint(vm_counter(vm), ==, before);
}

/*
 * Migrations
 */

char *vm_migration_status(Vm *vm)
{
    QDict *resp = vm_command(vm, "{'execute': 'query-migrate'}");
    char *status = g_strdup(qdict_get_str(resp, "status"));

    qobject_unref(resp);
    return status;
}

char *vm_migration_error(Vm *vm)
{
    QDict *resp = vm_command(vm, "{'execute': 'query-migrate'}");
    char *desc = g_strdup(qdict_get_try_str(resp, "error-desc"));

    qobject_unref(resp);
    return desc;
}

char *vm_wait_migration(Vm *vm)
{
    int64_t end = wait_until();

    for (;;) {
        g_autofree char *now = vm_migration_status(vm);

        if (!strcmp(now, "completed") || !strcmp(now, "failed") ||
            !strcmp(now, "cancelled")) {
            return g_steal_pointer(&now);
        }
        wait_check(end, "the migration of QEMU '%s', which is '%s', to end",
                   vm->name, now);
    }
}

void vm_wait_pre_switchover(Vm *vm)
{
    int64_t end = wait_until();

    for (;;) {
        g_autofree char *status = vm_migration_status(vm);

        if (!strcmp(status, "pre-switchover")) {
            return;
        }
        g_assert_cmpstr(status, !=, "failed");
        wait_check(end, "the migration of QEMU '%s', which is '%s', to stop "
                   "before switchover", vm->name, status);
    }
}

void vm_migrate_continue(Vm *vm)
{
    QDict *resp = vm_command(vm, "{'execute': 'migrate-continue',"
                             " 'arguments': {'state': 'pre-switchover'}}");

    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
}

void vm_set_capability(Vm *vm, const char *name, bool on)
{
    QDict *resp = vm_command(vm, "{'execute': 'migrate-set-capabilities',"
        " 'arguments': {'capabilities': ["
        "  {'capability': %s, 'state': %i}]}}", name, on);

    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
}

char *vm_listen(Vm *vm, bool tcp, bool exit_on_error)
{
    g_autofree char *path = tmp_path("incoming");
    char *uri = tcp ? g_strdup("tcp:127.0.0.1:0")
                    : g_strdup_printf("unix:%s", path);
    QDict *resp = vm_command(vm, "{'execute': 'migrate-incoming',"
                             " 'arguments': {'uri': %s,"
                             " 'exit-on-error': %i}}", uri, exit_on_error);

    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
    if (tcp) {
        QDict *address;

        resp = vm_command(vm, "{'execute': 'query-migrate'}");
        address = qobject_to(QDict, qlist_peek(qdict_get_qlist(resp,
                                                   "socket-address")));
        g_free(uri);
        uri = g_strdup_printf("tcp:127.0.0.1:%s",
                              qdict_get_str(address, "port"));
        qobject_unref(resp);
    }
    return uri;
}
