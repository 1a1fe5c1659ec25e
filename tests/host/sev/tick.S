/*
 * A guest that keeps checking its private memory, and says so in memory that
 * it shares with the host.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * In the page SHARED: a counter of rounds, the number of words that were not
 * what the round before had left there, and what SEV_STATUS says.
 */

#include "long-mode.S.inc"
#include "tick.S.inc"

#define SHARED  0x300000

main:
	movabsq	$(ALIAS + SHARED), %rbp
	movq	$0, (%rbp)
	movq	$0, 8(%rbp)
	movq	$0, 16(%rbp)
	xorl	%r12d, %r12d		/* what this round expects */
	fill
	leaq	ready(%rip), %rsi
	call	say
round:
	verify
#ifndef PLAIN
	movl	$0xc0010131, %ecx	/* SEV_STATUS */
	rdmsr
	movl	%eax, 16(%rbp)
#endif
	incq	%r12
	incq	(%rbp)
	jmp	round

ready:		.ascii	"tick: ready\n"

	.org	0xfff0
	.code16
	jmp	start16
	.org	0x10000
