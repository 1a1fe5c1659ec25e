/*
 * Hand-over tests: a QEMU, its monitor, and the guest that it runs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * No function waits for longer than wait.h says.
 */

#ifndef HAND_OVER_VM_H
#define HAND_OVER_VM_H

#include "qobject/qdict.h"

/* Addresses in the guest's RAM, see write_roms() in hand-over-test.c */
#define COUNTER 0x8000
#define BOOTS   0x8004          /* how often the guest was reset, and 1 */
#define LOOP    0xf0005         /* where it counts */

typedef struct Vm {
    const char *name;
    pid_t pid;          /* 0: it has ended */
    int qmp;            /* connected monitor */
    GString *input;     /* bytes from there that are still to be looked at */
} Vm;

/* Make and remove the directory that sockets and files are in */
void vm_init(void);
void vm_cleanup(void);
/* The path of a file in that directory, to be freed with g_free() */
char *tmp_path(const char *name);

/* A socket that is connected to @path, or -1 if nobody listens there */
int connect_unix(const char *path);
int listen_unix(const char *path);

/* Start a QEMU that runs the guest; @extra: more options */
void vm_start(Vm *vm, const char *name, const char *extra);
/* Wait until it has ended by itself; returns what waitpid() says */
int vm_wait_exit(Vm *vm);
/* Kill it, unless it has ended */
void vm_kill(Vm *vm);
/* How many descriptors it has open */
unsigned vm_descriptors(Vm *vm);

/* What a command returns, or its whole response if that is an error */
QDict *vm_command(Vm *vm, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* What the human monitor says to @line, to be freed with g_free() */
char *vm_hmp(Vm *vm, const char *line);
/* A command without arguments succeeds */
void vm_ok(Vm *vm, const char *command);
/* A command without arguments fails, and its error contains @words */
void vm_error(Vm *vm, const char *command, const char *words);

bool vm_is_running(Vm *vm);
/* @state: as query-status has it */
bool vm_is_in_state(Vm *vm, const char *state);
void vm_wait_running(Vm *vm);
void vm_wait_state(Vm *vm, const char *state);

/* 32 bits of the guest's RAM */
uint32_t vm_word(Vm *vm, unsigned address);
uint32_t vm_counter(Vm *vm);
/* Wait until the guest runs and has made progress */
void vm_assert_counts(Vm *vm);
void vm_assert_stands_still(Vm *vm);

/* As query-migrate has them, to be freed with g_free(); NULL: none */
char *vm_migration_status(Vm *vm);
char *vm_migration_error(Vm *vm);
/* Wait until the migration has ended; returns its status, as above */
char *vm_wait_migration(Vm *vm);
/* Wait until it pauses before switchover, and let it go on */
void vm_wait_pre_switchover(Vm *vm);
void vm_migrate_continue(Vm *vm);
void vm_set_capability(Vm *vm, const char *name, bool on);

/*
 * A QEMU with -incoming defer waits for a migration, at a UNIX socket or a TCP
 * port.  Returns its URI, to be freed with g_free().
 */
char *vm_listen(Vm *vm, bool tcp, bool exit_on_error);

#endif
