/*
 * A guest that is a hypervisor: what can't be said in C
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define EFER 0x100		/* LME */
#include "../pvh.S.inc"
	/* main(APIC ID), on a stack of its own */
	movl	$1, %eax
	cpuid
	shrl	$24, %ebx
	movl	%ebx, %edi
	cmpl	$4, %edi
	jae	1f
	leal	1(%rbx), %eax
	shll	$14, %eax
	leaq	stacks(%rax), %rsp
	call	main
1:	hlt
	jmp	1b

	/* Where the other processors begin, once it is copied to 0x8000 */
	.globl	ap_start, ap_end
	.code16
ap_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	lgdtl	0x8000 + ap_gdtr - ap_start
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$0x18, $ap_start32
ap_gdtr:
	.word	gdtr - gdt - 1
	.long	gdt
ap_end:
	.code32
ap_start32:
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %ss
	jmp	to_long_mode
	.code64

	.macro	push_all
	.irp	r, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11
	pushq	%\r
	.endr
	.endm
	.macro	pop_all
	.irp	r, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax
	popq	%\r
	.endr
	.endm

	/* tick NAME: an interrupt, for the function NAME_c */
	.macro	tick name
	.globl	\name
\name:
	push_all
	call	\name\()_c
	pop_all
	iretq
	.endm
	tick	l1_timer
	tick	l2_tick

	/* unexpected NAME: what nobody waits for, for NAME_c(rip) */
	.macro	unexpected name
	.globl	\name
\name:
	movq	(%rsp), %rdi
	call	\name\()_c
1:	jmp	1b
	.endm
	unexpected l1_other
	unexpected l2_other

	/* event NAME KIND CODE: CODE is 8 where there is an error code */
	.macro	event name, kind, code
	.globl	\name
\name:
	push_all
	movl	$\kind, %edi
	leaq	72(%rsp), %rsi
	call	l2_event_c
	pop_all
	addq	$\code, %rsp
	iretq
	.endm
	event	l2_intr, 0, 0
	event	l2_nmi, 1, 0
	event	l2_ud, 2, 0
	event	l2_gp, 3, 8
	event	l2_pf, 4, 8
	event	l2_int3, 5, 0
	event	l2_into, 6, 0
	event	l2_intn, 7, 0

	/* uint64_t l2_registers(pattern, spin): what has changed; 0: nothing */
	.globl	l2_registers
l2_registers:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsi, %rcx
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	leaq	\n(%rdi), %r\n
	.endr
	leaq	1(%rdi), %rbx
	leaq	2(%rdi), %rbp
	leaq	3(%rdi), %rdx
	leaq	4(%rdi), %rsi
1:	loop	1b
	xorl	%eax, %eax
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	subq	$\n, %r\n
	xorq	%rdi, %r\n
	orq	%r\n, %rax
	.endr
	leaq	-1(%rbx), %rbx
	xorq	%rdi, %rbx
	orq	%rbx, %rax
	leaq	-2(%rbp), %rbp
	xorq	%rdi, %rbp
	orq	%rbp, %rax
	leaq	-3(%rdx), %rdx
	xorq	%rdi, %rdx
	orq	%rdx, %rax
	leaq	-4(%rsi), %rsi
	xorq	%rdi, %rsi
	orq	%rsi, %rax
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret

	/* uint64_t l2_vector_registers(pattern, spin): as above */
	.globl	l2_vector_registers
l2_vector_registers:
	movq	%rsi, %rcx
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	leaq	\n(%rdi), %rax
	movq	%rax, %xmm\n
	punpcklqdq %xmm\n, %xmm\n
	.endr
1:	loop	1b
	xorl	%eax, %eax
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	leaq	\n(%rdi), %rdx
	movq	%xmm\n, %rsi
	xorq	%rdx, %rsi
	orq	%rsi, %rax
	psrldq	$8, %xmm\n
	movq	%xmm\n, %rsi
	xorq	%rdx, %rsi
	orq	%rsi, %rax
	.endr
	ret

	/* uint64_t l2_avx_registers(pattern, spin): their upper halves, as above */
	.globl	l2_avx_registers
l2_avx_registers:
	movq	%rsi, %rcx
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	leaq	\n(%rdi), %rax
	vmovq	%rax, %xmm\n
	vpunpcklqdq %xmm\n, %xmm\n, %xmm\n
	vinsertf128 $1, %xmm\n, %ymm\n, %ymm\n
	.endr
1:	loop	1b
	xorl	%eax, %eax
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	leaq	\n(%rdi), %rdx
	vextractf128 $1, %ymm\n, %xmm\n
	vmovq	%xmm\n, %rsi
	xorq	%rdx, %rsi
	orq	%rsi, %rax
	vpsrldq	$8, %xmm\n, %xmm\n
	vmovq	%xmm\n, %rsi
	xorq	%rdx, %rsi
	orq	%rsi, %rax
	.endr
	ret

	.globl	svm_call, vmx_call
svm_call:
	vmmcall
	ret
vmx_call:
	vmcall
	ret

	/* L2's registers, in struct cpu */
	.set	at, 8
	.irp	r, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	.set	l2_\r, at
	.set	at, at + 8
	.endr
	.macro	load_l2
	.irp	r, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	movq	%gs:l2_\r, %\r
	.endr
	.endm
	.macro	save_l2
	.irp	r, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	movq	%\r, %gs:l2_\r
	.endr
	.endm
	.macro	push_callee_saved
	.irp	r, rbx, rbp, r12, r13, r14, r15
	pushq	%\r
	.endr
	.endm
	.macro	pop_callee_saved
	.irp	r, r15, r14, r13, r12, rbp, rbx
	popq	%\r
	.endr
	.endm

	/* void svm_run(vmcb): RAX is in it */
	.globl	svm_run
svm_run:
	push_callee_saved
	movq	%rdi, %rax
	clgi
	sti			/* what comes now is for after STGI */
	load_l2
	vmrun	%rax
	save_l2
	stgi
	nop			/* interrupts are taken here */
	cli
	pop_callee_saved
	ret

	/* bool vmx_run(launched): false if there was no entry */
	.globl	vmx_run, vmx_exit
vmx_run:
	push_callee_saved
	movl	$0x6c14, %eax	/* host RSP */
	vmwrite	%rsp, %rax
	testl	%edi, %edi
	movq	%gs:l2_rax, %rax
	load_l2
	jnz	1f
	vmlaunch
	jmp	2f
1:	vmresume
2:	xorl	%eax, %eax
	jmp	3f
vmx_exit:
	movq	%rax, %gs:l2_rax
	save_l2
	sti
	nop			/* interrupts are taken here */
	cli
	movl	$1, %eax
3:	pop_callee_saved
	ret

	.data
	.balign	8
gdt:
	.quad	0
	.quad	0x00af9b000000ffff
	.quad	0x00cf93000000ffff
	.quad	0x00cf9b000000ffff
gdtr:
	.word	gdtr - gdt - 1
	.long	gdt

	.bss
	.balign	4096
tables:	.skip	0x6000
stacks:	.skip	4 * 0x4000
stack_top:
	.section .note.GNU-stack, "", @progbits
