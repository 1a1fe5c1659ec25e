/*
 * Errors reported while a migration is loaded
 *
 * The code that loads devices reports errors with error_report(), and returns
 * only an error number.  The messages should reach the process that has
 * requested the migration: a management tool by query-migrate, the source of a
 * hand-over from its destination.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_LOAD_ERRORS_H
#define MIGRATION_LOAD_ERRORS_H

/* Main thread: start to collect errors, discarding any collected before */
void load_errors_begin(void);

/* Main thread: append the collected errors to @err, and discard them */
void load_errors_append(Error **err);

/* Main thread: stop collecting */
void load_errors_end(void);

#endif
