/*
 * A guest that touches memory, and says how many cycles that took: for the
 * first time, and again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "long-mode.S.inc"

#define FROM    0x400000
#define SIZE    (48 << 20)
#define PASSES  24

main:
	call	cycles
	movq	%rax, %r12
	call	touch
	call	cycles
	subq	%rax, %r12
	negq	%r12
	call	cycles
	movq	%rax, %r13
	movl	$PASSES, %r14d
1:	call	touch
	decl	%r14d
	jnz	1b
	call	cycles
	subq	%rax, %r13
	negq	%r13

	leaq	hello(%rip), %rsi
	movl	$0x80000, %edi
	movl	$(numbers - hello), %ecx
	rep movsb
	movq	%r12, %rax
	call	hex
	movb	$' ', (%rdi)
	incq	%rdi
	movq	%r13, %rax
	call	hex
	movb	$'\n', (%rdi)
	movl	$0x80000, %esi
	call	say
	movb	$0x10, %al
	outb	%al, $EXIT
2:	hlt
	jmp	2b

/* A quadword of each cache line: read, and written */
touch:
	movl	$FROM, %edi
	movl	$(SIZE / 64), %ecx
1:	incq	(%rdi)
	addq	$64, %rdi
	loop	1b
	ret

cycles:
	rdtsc
	shlq	$32, %rdx
	orq	%rdx, %rax
	ret

/* rax: in 16 digits to (rdi) */
hex:
	movl	$16, %ecx
1:	rolq	$4, %rax
	movl	%eax, %edx
	andl	$15, %edx
	leaq	digits(%rip), %rbx
	movb	(%rbx, %rdx), %dl
	movb	%dl, (%rdi)
	incq	%rdi
	loop	1b
	ret

hello:		.ascii	"touch: "
numbers:
digits:		.ascii	"0123456789abcdef"

	.org	0xfff0
	.code16
	jmp	start16
	.org	0x10000
