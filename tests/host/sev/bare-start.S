/*
 * What of bare.c can't be said in C
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define EFER 0x1100		/* LME, SVME */
#include "../pvh.S.inc"
	movl	$watchdog, %eax
	movw	%ax, idt + 0x40 * 16
	movw	$0x08, idt + 0x40 * 16 + 2
	movw	$0x8e00, idt + 0x40 * 16 + 4
	shrl	$16, %eax
	movw	%ax, idt + 0x40 * 16 + 6
	lidt	idtr
	call	main
1:	hlt
	jmp	1b

/*
 * void vmrun_es(uint64_t vmcb, void *hsave): the same for a guest with SEV-ES,
 * whose #VMEXIT loads what VMRUN has not saved, from where hsave has it; all
 * other registers are the guest's before, and 0 there.
 */
	.globl	vmrun_es
vmrun_es:
	movq	%rsi, %rax
	vmsave
	movq	$1, 0x400 + 0x3e8(%rsi)		/* XCR0 */
	/* void vmrun(uint64_t vmcb): as far as the next #VMEXIT */
	.globl	vmrun
vmrun:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rdi, %rax
	/* an interrupt ends the guest, and is taken here */
	clgi
	sti
	vmrun
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	stgi
	nop
	cli
	ret

/* The watchdog's interrupt */
watchdog:
	pushq	%rax
	movl	$0xfee000b0, %eax	/* EOI */
	movl	$0, (%rax)
	popq	%rax
	iretq

/* Guests: 16-bit code that runs at 0 of a code segment */
	.code16
	.globl	guest_mark, guest_mark_end
guest_mark:	/* write a mark, read it back, and say so */
	movl	$0x6b72614d, 0x800
	movl	0x800, %eax
	vmmcall
guest_mark_end:

	.globl	guest_insns, guest_insns_end
guest_insns:	/* one of each that is intercepted; the host skips them */
	cpuid
	movl	%edx, %cr0
	movl	%cr4, %ecx
	int	$0x42
	int3
	movw	$0x80, %dx
	outb	%al, %dx
	movl	$0xc0000080, %ecx
	rdmsr
	invlpg	0x123
	pause
	vmmcall
guest_insns_end:

	.globl	guest_npf, guest_npf_end
guest_npf:	/* an access to where there is nothing */
	movl	%cs:0x9000, %ebx
	.byte	0x66, 0x0f, 0x1f, 0x84, 0, 1, 2
guest_npf_end:

	/*
	 * What changes the machine's memory map (PAM0 of Q35's host bridge) has
	 * each processor look for work; meanwhile interrupts are counted.
	 */
	.globl	guest_event, guest_event_handler, guest_event_end
guest_event:
	movw	$0xcf8, %dx
	movl	$0x80000090, %eax
	outl	%eax, %dx
	movw	$0xcfc, %dx
	inl	%dx, %eax
	xorl	$0x30, %eax
	outl	%eax, %dx
	xorl	$0x30, %eax
	outl	%eax, %dx
	vmmcall
guest_event_handler:
	incw	%cs:0x300
	iret
guest_event_end:

	/*
	 * With SEV-ES: at 0x100 of its page, whose first bytes are the vectors.
	 * What the host is to know it writes into the GHCB MSR.
	 */
	.globl	guest_es, guest_es_vc, guest_es_end
	.set	ES_BASE, 0x100
#define VMGEXIT .byte 0xf3, 0x0f, 0x01, 0xd9
guest_es:
	movl	%ebx, %esi			/* of the VMSA */
	movw	$2, %cs:0x304
	cpuid					/* #VC, skipped */
	movl	$0xc0010130, %ecx
	movl	%esi, %eax
	movzwl	%cs:0x300, %edx			/* how many #VC so far */
	wrmsr
	VMGEXIT
	rdmsr					/* what the host answers */
	movl	%eax, %edi
	movd	%edi, %xmm3
	sti
	hlt
	cli
	movd	%xmm3, %eax
	cmpl	%edi, %eax
	jne	1f
	wrmsr
	VMGEXIT
	movl	%cr0, %eax
	orl	$8, %eax			/* TS */
	movl	%eax, %cr0
	clts
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$1, %eax			/* SCE */
	wrmsr
	movw	$6, %cs:0x304
	movl	%cs:0x9000, %ebx		/* #VC: the host marks it so */
	movl	%cs:0xa000, %ebx		/* #NPF */
	movl	%ebx, %edx
	movzwl	%cs:0x300, %eax
	movl	$0xc0010130, %ecx
	wrmsr
	VMGEXIT
1:	movl	$0xbad, %eax
	wrmsr
	VMGEXIT
guest_es_vc:
	incw	%cs:0x300
	pushw	%bp
	pushw	%ax
	movw	%sp, %bp
	movw	%cs:0x304, %ax
	addw	%ax, 4(%bp)
	popw	%ax
	popw	%bp
	iret
guest_es_end:

	.data
	.balign	8
gdt:
	.quad	0
	.quad	0x00af9b000000ffff
	.quad	0x00cf93000000ffff
gdtr:
	.word	gdtr - gdt - 1
	.long	gdt

idtr:
	.word	0x41 * 16 - 1
	.quad	idt

	.bss
	.balign	4096
idt:	.skip	4096
	.globl	tables
tables:	.skip	0x6000
	.skip	0x4000
stack_top:

	.section .note.GNU-stack, "", @progbits
