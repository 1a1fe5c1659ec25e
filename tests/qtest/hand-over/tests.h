/*
 * Hand-over tests: each file of tests adds its own
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HAND_OVER_TESTS_H
#define HAND_OVER_TESTS_H

void hand_over_add_failure_tests(void);
void hand_over_add_machine_tests(void);
void hand_over_add_memory_tests(void);
void hand_over_add_unused_tests(void);
void hand_over_add_migrate_tests(void);
void hand_over_add_command_tests(void);
void hand_over_add_state_tests(void);
void hand_over_add_change_tests(void);
void hand_over_add_limit_tests(void);
void hand_over_add_base_tests(void);

#endif
