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

#define SHARED  0x300000
#define FROM    0x400000
#define WORDS   (2 << 20) / 8

main:
	movabsq	$(ALIAS + SHARED), %rbp
	movq	$0, (%rbp)
	movq	$0, 8(%rbp)
	movq	$0, 16(%rbp)
	xorl	%r12d, %r12d		/* what this round expects */
	/* the first round only writes */
	movl	$FROM, %edi
	movl	$WORDS, %ecx
	movl	$1, %eax
1:	movq	%rax, (%rdi)
	incq	%rax
	addq	$8, %rdi
	loop	1b
	leaq	ready(%rip), %rsi
	call	say
round:
	movl	$FROM, %edi
	movl	$WORDS, %ecx
	leaq	1(%r12), %rax
2:	cmpq	%rax, (%rdi)
	je	3f
	incq	8(%rbp)
3:	incq	(%rdi)
	incq	%rax
	addq	$8, %rdi
	loop	2b
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
