/*
 * As tick.S, with SEV-ES: the guest keeps checking its private memory, and what
 * it asks the hypervisor for, and says so in memory that it shares with it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * In the page SHARED, words of 64 bits:
 *   0  rounds of the first processor
 *   1  what it found wrong: words of memory that were not what the round before
 *      had left there, and answers
 *   2  SEV_STATUS
 *   3  how often the second processor was woken from AP reset hold
 *   4  one more than interrupts that the third one had, which halts in between
 *   5  rounds of port I/O of the fourth one
 *   6  what that one found wrong
 *   7  whether the second one is up
 *
 * Requests are those of AMD's publication 56421 (GHCB); of processors that are
 * not there nothing is asked.
 */

#define ES
#include "long-mode.S.inc"
#include "tick.S.inc"

#define SHARED		0x300000
#define GHCB		0x301000	/* of the first; a page each */
#define IDT		0x60000

#define APIC		0xfee00000
#define APIC_EOI	0xb0
#define APIC_SPURIOUS	0xf0
#define APIC_ICR	0x300
#define APIC_ICR2	0x310
#define HPET		0xfed00000
#define FW_CFG		0x510
#define VECTOR		0x40

#define MSR_DEBUGCTL	0x1d9
#define MSR_GHCB	0xc0010130
#define MSR_SEV_STATUS	0xc0010131

/* Offsets in the GHCB */
#define G_RAX		0x1f8
#define G_CODE		0x390
#define G_INFO1		0x398
#define G_INFO2		0x3a0
#define G_SCRATCH	0x3a8
#define G_VALID		0x3f0
#define G_BUFFER	0x800
#define G_VERSION	0xffa

/* Which of them are there: all, in each request */
#define VALID0		(1 << (G_RAX / 8))
#define VALID1		(15 << (G_CODE / 8 - 64))

#define EXIT_IOIO	0x7b
#define EXIT_MMIO_READ	0x80000001
#define EXIT_MMIO_WRITE	0x80000002
#define EXIT_HOLD	0x80000004

#define VMGEXIT		.byte 0xf3, 0x0f, 0x01, 0xd9

/* r14: the GHCB's physical address, r15: where it is mapped; ebx: processor */

main:
	movabsq	$(ALIAS + SHARED), %rbp
	testl	%esi, %esi
	jnz	ap
	xorl	%ebx, %ebx
	call	ghcb
	xorl	%eax, %eax
	movl	$8, %ecx
	movq	%rbp, %rdi
	rep stosq
	/* how many processors there are: fw_cfg, item 5 */
	movl	$5, %eax
	call	fw_cfg
	call	fw_cfg_byte
	movzbl	%al, %r13d
	xorl	%r12d, %r12d		/* what this round expects */
	movl	$1, %r9d		/* what word 4 will be */
	fill
	/* let the others begin: INIT and SIPI */
	movl	$1, %r11d
2:	cmpl	%r13d, %r11d
	jae	round
	call	start
	incl	%r11d
	jmp	2b

round:
	verify
	movl	$MSR_SEV_STATUS, %ecx
	rdmsr
	movl	%eax, 16(%rbp)
	/*
	 * DEBUGCTL is this guest's own, from Linux 6.10 on: nobody handles a #VC
	 * here.  (On older ones it has one processor: docs/hosts.md)
	 */
	cmpl	$2, %r13d
	jb	3f
	movl	$MSR_DEBUGCTL, %ecx
	xorl	%eax, %eax
	xorl	%edx, %edx
	wrmsr
	/* the HPET's vendor, by MMIO that QEMU answers */
3:	movl	$HPET, %edi
	movl	$EXIT_MMIO_READ, %eax
	call	mmio
	cmpw	$0x8086, G_BUFFER + 2(%r15)
	je	4f
	incq	8(%rbp)
	/* port I/O: the fourth one's, where it is there */
4:	cmpl	$4, %r13d
	jae	5f
	call	fw_cfg_round
	addq	%rax, 8(%rbp)
	/*
	 * Wake the second one: this is lost if it is not held at the moment.
	 * Not before it is up: to KVM its CR4 is 0 from INIT on, and KVM has the
	 * guest die (KVM_BUG_ON in kvm_calc_cpu_role(), Linux 6.12.117) if
	 * that processor, which goes on, turns on long mode then.
	 */
5:	movl	$1, %r11d
	cmpl	%r13d, %r11d
	jae	7f
	cmpq	$0, 56(%rbp)
	je	6f
	call	start
	/* interrupt the third one, if it had the last: none is lost */
6:	movl	$2, %r11d
	cmpl	%r13d, %r11d
	jae	7f
	cmpq	32(%rbp), %r9
	jne	7f
	incq	%r9
	movl	$VECTOR, %eax
	call	ipi
7:	incq	%r12
	incq	(%rbp)
	jmp	round

/* INIT and SIPI to processor r11 */
start:
	movl	$0x4500, %eax
	call	ipi
	movl	$0x4600, %eax
/* eax to processor r11 */
ipi:
	pushq	%rax
	movl	%r11d, %edx
	shll	$24, %edx
	movl	$(APIC + APIC_ICR2), %edi
	call	mmio_write
	popq	%rdx
	movl	$(APIC + APIC_ICR), %edi
	jmp	mmio_write

/* The others */
ap:
	/* CPUID's leaf 1, EBX[31:24]: which one this is */
	movl	$MSR_GHCB, %ecx
	movl	$0x40000004, %eax
	movl	$1, %edx
	wrmsr
	VMGEXIT
	rdmsr
	shrl	$24, %edx
	movl	%edx, %ebx
	shll	$12, %edx
	addl	%edx, %esp
	call	ghcb
	cmpl	$2, %ebx
	je	halts
	ja	ports

/* AP reset hold, in both ways of asking for it in turn */
	movq	$1, 56(%rbp)
holds:
	movl	$MSR_GHCB, %ecx
	movl	$6, %eax
	xorl	%edx, %edx
	wrmsr
	VMGEXIT
	rdmsr
	/* the answer is 7; the rest of it is 0 if this is not due to a SIPI */
	movl	%eax, %edi
	andl	$0xfff, %edi
	cmpl	$7, %edi
	jne	holds
	shrl	$12, %eax
	orl	%edx, %eax
	jz	holds
	incq	24(%rbp)
	call	ghcb_msr
1:	movl	$EXIT_HOLD, %eax
	xorl	%edi, %edi
	xorl	%esi, %esi
	call	request
	cmpq	$0, G_INFO2(%r15)
	je	1b
	incq	24(%rbp)
	jmp	holds

/* Halts, and has an interrupt now and then */
halts:
	leaq	interrupt(%rip), %rax
	movl	$(IDT + VECTOR * 16), %edi
	movw	%ax, (%rdi)
	movw	$0x18, 2(%rdi)
	movw	$0x8e00, 4(%rdi)
	shrq	$16, %rax
	movw	%ax, 6(%rdi)
	shrq	$16, %rax
	movl	%eax, 8(%rdi)
	movl	$0, 12(%rdi)
	lidt	idtr(%rip)
	movl	$(APIC + APIC_SPURIOUS), %edi
	movl	$0x1ff, %edx
	call	mmio_write
	/* from now on it accepts interrupts */
	incq	32(%rbp)
1:	sti
	hlt
	cli
	jmp	1b
interrupt:
	incq	32(%rbp)
	movl	$(APIC + APIC_EOI), %edi
	xorl	%edx, %edx
	call	mmio_write
	iretq

/* Does port I/O */
ports:
	call	fw_cfg_round
	addq	%rax, 48(%rbp)
	incq	40(%rbp)
	jmp	ports

/* Subroutines; they change rax, rcx, rdx, rsi, rdi and r8 */

/* r14 and r15 for processor ebx */
ghcb:
	movl	%ebx, %r14d
	shll	$12, %r14d
	addl	$GHCB, %r14d
	movabsq	$ALIAS, %r15
	addq	%r14, %r15
	movw	$1, G_VERSION(%r15)
ghcb_msr:
	movl	$MSR_GHCB, %ecx
	movl	%r14d, %eax
	xorl	%edx, %edx
	wrmsr
	ret

/* eax: exit code; rdi, rsi: EXITINFO1 and 2 */
request:
	movl	%eax, %eax
	movq	%rax, G_CODE(%r15)
	movq	%rdi, G_INFO1(%r15)
	movq	%rsi, G_INFO2(%r15)
	movabsq	$VALID0, %rax
	movq	%rax, G_VALID(%r15)
	movabsq	$VALID1, %rax
	movq	%rax, G_VALID + 8(%r15)
	VMGEXIT
	ret

/* edi: address; eax: exit code; 4 bytes from or to the GHCB's buffer */
mmio:
	leaq	G_BUFFER(%r14), %rdx
	movq	%rdx, G_SCRATCH(%r15)
	movl	$4, %esi
	jmp	request

/* edi: address, edx: value */
mmio_write:
	movl	%edx, G_BUFFER(%r15)
	movl	$EXIT_MMIO_WRITE, %eax
	jmp	mmio

/* Select item eax of fw_cfg */
fw_cfg:
	movl	%eax, %eax
	movq	%rax, G_RAX(%r15)
	movl	$(FW_CFG << 16 | 1 << 9 | 1 << 5), %edi
	jmp	port
/* al: the next byte of it */
fw_cfg_byte:
	movl	$((FW_CFG + 1) << 16 | 1 << 9 | 1 << 4 | 1), %edi
port:
	movl	$EXIT_IOIO, %eax
	xorl	%esi, %esi
	call	request
	movq	G_RAX(%r15), %rax
	ret

/* rax: whether fw_cfg's signature is not "QEMU" */
fw_cfg_round:
	xorl	%eax, %eax
	call	fw_cfg
	leaq	signature(%rip), %r8
1:	call	fw_cfg_byte
	cmpb	%al, (%r8)
	jne	2f
	incq	%r8
	cmpb	$0, (%r8)
	jne	1b
	xorl	%eax, %eax
	ret
2:	movl	$1, %eax
	ret

signature:	.asciz	"QEMU"
idtr:		.word	(VECTOR + 1) * 16 - 1
		.quad	IDT

	/* Where QEMU looks for where the other processors begin */
	.org	0xffe0 - 22
	.long	0xffff0000 + ap16 - base
	.word	22
	.long	0x00f771de
	.word	0x1a7e, 0x4fcb
	.byte	0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e

	.org	0xfff0
	.code16
	jmp	start16
	.org	0x10000
