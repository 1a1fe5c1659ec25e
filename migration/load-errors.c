/*
 * Errors reported while a migration is loaded
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "load-errors.h"

static GString *errors;

/*
 * The thread that loads holds the BQL, which protects @errors.  Errors
 * reported by other threads are ignored.
 */
static void note(const char *msg, void *opaque)
{
    if (!bql_locked()) {
        return;
    }
    if (errors->len) {
        g_string_append(errors, "; ");
    }
    g_string_append(errors, msg);
}

void load_errors_begin(void)
{
    if (!errors) {
        errors = g_string_new(NULL);
    }
    g_string_truncate(errors, 0);
    error_report_set_listener(note, NULL);
}

void load_errors_append(Error **err)
{
    Error *appended = NULL;

    if (!errors || !errors->len) {
        return;
    }
    error_setg(&appended, "%s: %s", error_get_pretty(*err), errors->str);
    error_free(*err);
    *err = appended;
    g_string_truncate(errors, 0);
}

void load_errors_end(void)
{
    error_report_set_listener(NULL, NULL);
}
