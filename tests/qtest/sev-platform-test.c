/*
 * The emulated SEV platform: options, queries, what is refused
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What it does with guests is tested by software that runs on it.
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"

#define PLATFORM "-S -machine q35 -accel tcg -cpu EPYC,check=off,sev=on " \
                 "-device amd-psp "

static void test_query(void)
{
    QTestState *qts = qtest_init("-S -machine q35 -accel tcg -device amd-psp "
                                 "-cpu EPYC,check=off,sev=on,sev-asids=32,"
                                 "sev-min-asid=7");
    QDict *answer = qtest_qmp_assert_success_ref(
        qts, "{ 'execute': 'query-sev-platform' }");
    g_autofree char *hmp = NULL;

    g_assert_cmpstr(qdict_get_str(answer, "state"), ==, "uninit");
    g_assert_cmpint(qdict_get_int(answer, "api-major"), ==, 0);
    g_assert_cmpint(qdict_get_int(answer, "api-minor"), ==, 24);
    g_assert_cmpint(qdict_get_int(answer, "asids"), ==, 32);
    g_assert_cmpint(qdict_get_int(answer, "min-asid"), ==, 7);
    g_assert_false(qdict_get_bool(answer, "owned"));
    g_assert_true(qlist_empty(qdict_get_qlist(answer, "guests")));
    qobject_unref(answer);

    hmp = qtest_hmp(qts, "info sev-platform");
    g_assert_nonnull(strstr(hmp, "state: uninit"));
    g_assert_nonnull(strstr(hmp, "ASIDs: 32, for guests without SEV-ES "
                                 "from 7 on"));
    qtest_quit(qts);
}

static void expect_error(QTestState *qts, const char *command,
                         const char *wanted)
{
    QDict *answer = qtest_qmp(qts, "%p", qobject_from_json(command,
                                                           &error_abort));
    const char *desc;

    g_assert_true(qdict_haskey(answer, "error"));
    desc = qdict_get_str(qdict_get_qdict(answer, "error"), "desc");
    if (!strstr(desc, wanted)) {
        g_test_message("%s: %s", command, desc);
        g_test_fail();
    }
    qobject_unref(answer);
}

static void test_absent(void)
{
    QTestState *qts = qtest_init("-S -machine q35 -accel tcg");

    expect_error(qts, "{ 'execute': 'query-sev-platform' }", "amd-psp");
    qtest_quit(qts);
}

/* Its state can't travel: that must be said, not found out */
static void test_migration(void)
{
    QTestState *qts = qtest_init(PLATFORM);
    g_autofree char *hmp = NULL;

    expect_error(qts, "{ 'execute': 'migrate', 'arguments': "
                      "{ 'uri': 'exec:cat > /dev/null' } }", "SEV platform");
    hmp = qtest_hmp(qts, "savevm state");
    g_assert_nonnull(strstr(hmp, "SEV platform"));
    qtest_quit(qts);
}

/* A reset leaves nothing of guests, and does not need a guest's help */
static void test_reset(void)
{
    QTestState *qts = qtest_init(PLATFORM);
    QDict *answer;

    qtest_writel(qts, 0x100000, 0x12345678);
    qtest_system_reset_nowait(qts);
    qtest_qmp_eventwait(qts, "RESET");
    answer = qtest_qmp_assert_success_ref(
        qts, "{ 'execute': 'query-sev-platform' }");
    g_assert_cmpstr(qdict_get_str(answer, "state"), ==, "uninit");
    qobject_unref(answer);
    qtest_quit(qts);
}

static const struct {
    const char *name;
    const char *options;
    const char *says;
} refused[] = {
    { "intel", "-accel tcg -cpu Skylake-Server,check=off,sev=on",
      "sev=on: needs a CPU model of AMD with svm and npt" },
    { "no-npt", "-accel tcg -cpu EPYC,check=off,npt=off,sev=on",
      "sev=on: needs a CPU model of AMD with svm and npt" },
    { "sev-es", "-accel tcg -cpu EPYC,check=off,sev=on,sev-es=on,"
      "sev-min-asid=1", "sev-min-asid=1 leaves no ASID to guests with SEV-ES" },
    { "sev-es-alone", "-accel tcg -cpu EPYC,check=off,sev-es=on",
      "sev-es=on needs sev=on" },
    { "asids", "-accel tcg -cpu EPYC,check=off,sev=on,sev-asids=4",
      "sev-min-asid=5, sev-asids=4: expected 1 <= sev-min-asid <= sev-asids" },
    { "no-sev", "-accel tcg -cpu EPYC,check=off -device amd-psp",
      "needs processors with SEV: -accel tcg -cpu EPYC,sev=on" },
    { "no-tcg", "-accel qtest -cpu EPYC,check=off,sev=on",
      "needs accel=tcg" },
    { "two", "-accel tcg -cpu EPYC,check=off,sev=on -device amd-psp "
      "-device amd-psp", "a machine has one" },
    { "only-migratable", "-accel tcg -cpu EPYC,check=off,sev=on "
      "-only-migratable", "cannot be migrated" },
};

static void test_refused(const void *data)
{
    size_t i = GPOINTER_TO_SIZE(data);
    g_autofree char *line = g_strdup_printf(
        "%s -machine q35 -nodefaults -display none -S %s",
        g_getenv("QTEST_QEMU_BINARY"), refused[i].options);
    g_autofree char *err = NULL;
    int status;

    g_assert_true(g_spawn_command_line_sync(line, NULL, &err, &status, NULL));
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    if (!strstr(err, refused[i].says)) {
        g_test_message("%s", err);
        g_test_fail();
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("sev-platform/query", test_query);
    qtest_add_func("sev-platform/absent", test_absent);
    qtest_add_func("sev-platform/migration", test_migration);
    qtest_add_func("sev-platform/reset", test_reset);
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        g_autofree char *name = g_strdup_printf("sev-platform/refused/%s",
                                                refused[i].name);

        qtest_add_data_func(name, GSIZE_TO_POINTER(i), test_refused);
    }
    return g_test_run();
}
