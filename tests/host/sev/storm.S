/*
 * A guest that keeps checking its private memory, as tick.S does, that knows how
 * often it has begun anew, and that does what it is asked for: resets, what stops
 * a guest, a sleep.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * In the page SHARED, words of 64 bits:
 *   0  rounds, over all resets
 *   1  words that were not what the round before had left there
 *   2  SEV_STATUS
 *   3  how often it has begun, by power on, reset or wake-up
 *   4  non-maskable interrupts
 *   5  what it is asked for: bits 15:0 a port, 31:16 a value, 32: which is of 16
 *      bits, 33: go on only after a reset, 34: a triple fault instead.  0 once
 *      it is about to do that
 *   6  how often it did
 */

#include "long-mode.S.inc"
#include "tick.S.inc"

#define SHARED		0x300000
#define IDT		0x60000
#define SVR		0xfee000f0
#define LVT_LINT1	0xfee00360
#define NMI		0x400

main:
	movabsq	$(ALIAS + SHARED), %rbp
	incq	24(%rbp)
#ifdef PLAIN
	/* an NMI's handler, and then NMIs */
	leaq	nmi(%rip), %rax
	movl	$(IDT + 2 * 16), %edi
	movw	%ax, (%rdi)
	movw	$0x18, 2(%rdi)
	movw	$0x8e00, 4(%rdi)
	shrq	$16, %rax
	movw	%ax, 6(%rdi)
	shrq	$16, %rax
	movl	%eax, 8(%rdi)
	movl	$0, 12(%rdi)
	lidt	idtr(%rip)
	/* (as long as the APIC is not enabled its LVT is masked) */
	movl	$SVR, %edi
	movl	$0x1ff, (%rdi)
	movl	$LVT_LINT1, %edi
	movl	$NMI, (%rdi)
#endif
	/* ICH9: ACPI's registers at port 0x600, as firmware would have it */
	movl	$0x8000f840, %eax
	movl	$0x601, %ecx
	call	pci_config
	movl	$0x8000f844, %eax
	movl	$0x80, %ecx
	call	pci_config

	movq	(%rbp), %r12		/* what this round expects */
	cmpq	$1, 24(%rbp)
	jne	again
	fill
	jmp	round

	/* A reset, in the middle of a round: where was it? */
again:
	movl	$FROM, %edi
	movl	$WORDS, %ecx
	leaq	1(%r12), %rax
1:	incq	%rax
	cmpq	%rax, (%rdi)
	jne	2f
	addq	$8, %rdi
	loop	1b
	jmp	end
2:	decq	%rax
	jmp	next

round:
	movl	$FROM, %edi
	movl	$WORDS, %ecx
	leaq	1(%r12), %rax
next:	cmpq	%rax, (%rdi)
	je	3f
	incq	8(%rbp)
3:	incq	(%rdi)
	incq	%rax
	addq	$8, %rdi
	loop	next
end:
#ifndef PLAIN
	movl	$0xc0010131, %ecx	/* SEV_STATUS */
	rdmsr
	movl	%eax, 16(%rbp)
#endif
	incq	%r12
	incq	(%rbp)
	movq	40(%rbp), %rbx
	testq	%rbx, %rbx
	jz	round

	/* asked for something */
	movq	$0, 40(%rbp)
	incq	48(%rbp)
	btq	$34, %rbx
	jc	fault
	movl	%ebx, %edx
	movl	%ebx, %eax
	shrl	$16, %eax
	btq	$32, %rbx
	jc	1f
	outb	%al, %dx
	jmp	2f
1:	outw	%ax, %dx
2:	btq	$33, %rbx
	jnc	round
3:	jmp	3b

fault:
	lidt	no_idt(%rip)
	ud2

pci_config:
	movw	$0xcf8, %dx
	outl	%eax, %dx
	movl	%ecx, %eax
	movw	$0xcfc, %dx
	outl	%eax, %dx
	ret

nmi:
	incq	32(%rbp)
	iretq

idtr:	.word	3 * 16 - 1
	.quad	IDT
no_idt:	.word	0
	.quad	0

	/* where a debugger stops it: the address of the round */
	.org	0xffe8
	.quad	round - base + 0xffff0000
	.org	0xfff0
	.code16
	jmp	start16
	.org	0x10000
