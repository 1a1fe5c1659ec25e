/*
 * What is reported while a migration is loaded
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "load-errors.h"

static GString *words;

/* Who loads has the BQL, which guards the words; others may report, too */
static void note(const char *msg, void *opaque)
{
    if (!bql_locked()) {
        return;
    }
    if (words->len) {
        g_string_append(words, "; ");
    }
    g_string_append(words, msg);
}

void load_errors_begin(void)
{
    if (!words) {
        words = g_string_new(NULL);
    }
    g_string_truncate(words, 0);
    error_report_set_listener(note, NULL);
}

void load_errors_append(Error **err)
{
    Error *appended = NULL;

    if (!words || !words->len) {
        return;
    }
    error_setg(&appended, "%s: %s", error_get_pretty(*err), words->str);
    error_free(*err);
    *err = appended;
    g_string_truncate(words, 0);
}

void load_errors_end(void)
{
    error_report_set_listener(NULL, NULL);
}
