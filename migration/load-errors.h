/*
 * What is reported while a migration is loaded
 *
 * The code that loads devices says with error_report() what is wrong, and
 * returns a number.  Whoever has asked for the migration should hear the words:
 * a management tool by query-migrate, the source of a hand-over from its
 * destination.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_LOAD_ERRORS_H
#define MIGRATION_LOAD_ERRORS_H

/* Main thread: listen from now on; what was heard before is forgotten */
void load_errors_begin(void);

/* Main thread: append what was heard to @err, and forget it */
void load_errors_append(Error **err);

/* Main thread: listen no more */
void load_errors_end(void);

#endif
