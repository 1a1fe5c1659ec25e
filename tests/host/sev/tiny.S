/*
 * The smallest guest that can look at its own encryption.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What it finds it says on the first serial line, in lines; a line "fail ..."
 * is the last one.  Then it does what single characters on that line ask for:
 *   r  read the page PRIVATE again: "same" or "changed"
 *   s  say the line at SECRET
 *   q  leave
 */

#include "long-mode.S.inc"

#define PRIVATE 0x200000
#define SECOND  0x201000
#define SHARED  0x300000
#define SECRET  0x400000

main:
	leaq	hello(%rip), %rsi
	call	say

	leaq	fail_msr(%rip), %rsi
	movl	$0xc0010131, %ecx
	rdmsr
	testb	$1, %al
	jz	fail
	leaq	fail_cpuid(%rip), %rsi
	movl	$0x8000001f, %eax
	cpuid
	testb	$2, %al
	jz	fail
	andl	$0x3f, %ebx
	cmpl	$C_BIT, %ebx
	jne	fail

	/* The same private text in two pages */
	movl	$PRIVATE, %edi
	call	fill
	movl	$SECOND, %edi
	call	fill
	leaq	fail_private(%rip), %rsi
	movl	$PRIVATE, %edi
	call	compare
	jne	fail
	/* Without the C-bit it is something else, all of it, in either page */
	leaq	fail_plain(%rip), %rsi
	movq	$(ALIAS + PRIVATE), %rdi
	call	resembles
	jc	fail
	movq	$(ALIAS + SECOND), %rdi
	call	resembles
	jc	fail
	/* and different things in different pages */
	leaq	fail_address(%rip), %rsi
	movq	$(ALIAS + PRIVATE), %rdi
	movq	$(ALIAS + SECOND), %rdx
	movl	$512, %ecx
2:	movq	(%rdi), %rax
	cmpq	(%rdx), %rax
	je	fail
	addq	$8, %rdi
	addq	$8, %rdx
	loop	2b
	/* and the first one with it again */
	leaq	fail_again(%rip), %rsi
	movl	$PRIVATE, %edi
	call	compare
	jne	fail

	/* The other way round */
	movq	$(ALIAS + SHARED), %rdi
	call	fill
	leaq	fail_shared(%rip), %rsi
	movl	$SHARED, %edi
	call	resembles
	jc	fail
	movq	$(ALIAS + SHARED), %rdi
	call	compare
	jne	fail

	leaq	ready(%rip), %rsi
	call	say
wait:
	movw	$(SERIAL + 5), %dx
	inb	%dx, %al
	testb	$1, %al
	jz	wait
	movw	$SERIAL, %dx
	inb	%dx, %al
	cmpb	$'q', %al
	je	leave
	cmpb	$'s', %al
	je	tell
	cmpb	$'r', %al
	jne	wait
	movl	$PRIVATE, %edi
	call	compare
	leaq	same(%rip), %rsi
	je	3f
	leaq	changed(%rip), %rsi
3:	call	say
	jmp	wait
tell:
	movl	$SECRET, %esi
	movb	$'\n', 48(%rsi)
	call	say
	jmp	wait
leave:
	leaq	bye(%rip), %rsi
	call	say
	movb	$0x10, %al
	outb	%al, $EXIT
4:	hlt
	jmp	4b
fail:
	call	say
	movb	$0x11, %al
	outb	%al, $EXIT
	jmp	4b

/* rdi: a page that is filled with 4 KiB of the text */
fill:
	movl	$(4096 / 16), %ecx
	movq	text(%rip), %rax
	movq	text + 8(%rip), %rdx
1:	movq	%rax, (%rdi)
	movq	%rdx, 8(%rdi)
	addq	$16, %rdi
	loop	1b
	ret

/* rdi: a page; equal if it is filled with the text */
compare:
	movl	$(4096 / 16), %ecx
	movq	text(%rip), %rax
	movq	text + 8(%rip), %rdx
1:	cmpq	%rax, (%rdi)
	jne	2f
	cmpq	%rdx, 8(%rdi)
	jne	2f
	leaq	16(%rdi), %rdi	/* keeps the flags */
	loop	1b
2:	ret

/* rdi: a page; carry if a quarter of a line anywhere is the text */
resembles:
	movl	$(4096 / 4), %ecx
	xorl	%edx, %edx
	leaq	text(%rip), %rbx
1:	movl	(%rdi), %eax
	cmpl	%eax, (%rbx, %rdx)
	stc
	je	2f
	addq	$4, %rdi
	addl	$4, %edx
	andl	$15, %edx
	loop	1b
	clc
2:	ret

text:		.ascii	"a secret, or not"
hello:		.ascii	"tiny: in long mode\n"
ready:		.ascii	"tiny: ready\n"
same:		.ascii	"tiny: same\n"
changed:	.ascii	"tiny: changed\n"
bye:		.ascii	"tiny: bye\n"
fail_msr:	.ascii	"tiny: fail: MSR 0xc0010131 says that there is no SEV\n"
fail_cpuid:	.ascii	"tiny: fail: CPUID 0x8000001f\n"
fail_private:	.ascii	"tiny: fail: private memory changed\n"
fail_plain:	.ascii	"tiny: fail: private memory can be read without the key\n"
fail_address:	.ascii	"tiny: fail: ciphertext does not depend on the address\n"
fail_again:	.ascii	"tiny: fail: private memory changed by looking at it\n"
fail_shared:	.ascii	"tiny: fail: shared memory reads the same with the key\n"

	.org	0xfff0
	.code16
	jmp	start16
	.org	0x10000
