/*
 * The smallest guest that can look at its own encryption: a firmware image of
 * 64 KiB for the top of the first 4 GiB.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Maps the first GiB twice: at 0 encrypted, at ALIAS not.  What it finds it
 * says on the first serial line, in lines; a line "fail ..." is the last one.
 * Then it does what single characters on that line ask for:
 *   r  read the page PRIVATE again: "same" or "changed"
 *   s  say the line at SECRET
 *   q  leave
 */

#ifndef C_BIT
#define C_BIT 51
#endif

#define TABLES  0x10000
#define PRIVATE 0x200000
#define SECOND  0x201000
#define SHARED  0x300000
#define SECRET  0x400000
#define ALIAS   0x8000000000

#define SERIAL  0x3f8
#define EXIT    0xf4

	.section .text
	.code16
	.globl	base
base:
start16:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	lgdtl	%cs:(gdtr - base)
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	$0x08, $(0xffff0000 + start32 - base)

	.balign	8
/* All are marked as accessed: this is in a ROM */
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	/* 32-bit code */
	.quad	0x00cf93000000ffff	/* data */
	.quad	0x00af9b000000ffff	/* 64-bit code */
gdtr:
	.word	gdtr - gdt - 1
	.long	0xffff0000 + gdt - base

	.code32
start32:
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	/* Without paging all accesses are private: so are these tables */
	movl	$TABLES, %edi
	xorl	%eax, %eax
	movl	$(5 * 4096 / 4), %ecx
	cld
	rep stosl
	/* level 4: at 0, and at 512 GiB for the alias */
	movl	$(TABLES + 0x1000 + 7), TABLES
	movl	$(1 << (C_BIT - 32)), TABLES + 4
	movl	$(TABLES + 0x2000 + 7), TABLES + 8
	movl	$(1 << (C_BIT - 32)), TABLES + 12
	/* level 3: the first GiB, and the one that has the firmware */
	movl	$(TABLES + 0x3000 + 7), TABLES + 0x1000
	movl	$(1 << (C_BIT - 32)), TABLES + 0x1004
	movl	$(0xc0000000 + 0x87), TABLES + 0x1018
	movl	$(1 << (C_BIT - 32)), TABLES + 0x101c
	movl	$(TABLES + 0x4000 + 7), TABLES + 0x2000
	movl	$(1 << (C_BIT - 32)), TABLES + 0x2004
	/* level 2: pages of 2 MiB, encrypted and not */
	movl	$(TABLES + 0x3000), %edi
	movl	$0x87, %eax
	movl	$512, %ecx
1:	movl	%eax, (%edi)
	movl	$(1 << (C_BIT - 32)), 4(%edi)
	movl	%eax, 0x1000(%edi)
	movl	$0, 0x1004(%edi)
	addl	$0x200000, %eax
	addl	$8, %edi
	loop	1b

	movl	%cr4, %eax
	orl	$0x20, %eax
	movl	%eax, %cr4
	movl	$TABLES, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000000, %eax
	movl	%eax, %cr0
	ljmpl	$0x18, $(0xffff0000 + start64 - base)

	.code64
start64:
	movl	$0x80000, %esp
	/* CR3 has a C-bit, too */
	movq	$((1 << C_BIT) + TABLES), %rax
	movq	%rax, %cr3

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

/* rsi: what to say, to the end of the line */
say:
	movw	$(SERIAL + 5), %dx
1:	inb	%dx, %al
	testb	$0x20, %al
	jz	1b
	movw	$SERIAL, %dx
	lodsb
	outb	%al, %dx
	cmpb	$'\n', %al
	jne	say
	ret

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
