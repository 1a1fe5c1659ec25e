/*
 * Emulated AMD Platform Security Processor: the SEV firmware
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Section, table and command names: Secure Encrypted Virtualization API,
 * publication 55766, revision 3.24.
 */

#ifndef HW_I386_AMD_PSP_FIRMWARE_H
#define HW_I386_AMD_PSP_FIRMWARE_H

#include "qemu/queue.h"
#include "qemu/thread.h"
#include "qapi/qapi-types-misc-target.h"
#include "tcg/sev_memory.h"
#include "amd-psp-crypto.h"

/* Policy of a guest, section 2.1, table "Guest Policy Structure" */
#define SEV_POLICY_NODBG        (1U << 0)
#define SEV_POLICY_NOKS         (1U << 1)
#define SEV_POLICY_ES           (1U << 2)

typedef struct SevGuest {
    uint32_t handle;
    uint32_t policy;
    uint32_t asid;              /* 0: not active */
    SevState state;
    SevKeyId key;
    SevTransportKeys transport;
    struct sha256_ctx launched;
    uint8_t measure[SEV_MAC_SIZE];
    QTAILQ_ENTRY(SevGuest) next;
} SevGuest;

/* State that survives SHUTDOWN; with INIT_EX, it is stored by the host */
typedef struct SevIdentity {
    SevEcKey pek;
    SevEcKey oca;               /* not used if an owner's is imported */
    SevEcKey pdh;
    SevCert pek_cert;
    SevCert oca_cert;
    uint32_t owned;             /* by an external owner */
} SevIdentity;

/* The firmware's state; locked, because queries may read it at any time */
typedef struct SevFirmware {
    QemuMutex lock;
    SevPlatformState state;
    bool config_es;
    QTAILQ_HEAD(, SevGuest) guests;
    uint32_t next_handle;
    bool *asid_dirty;           /* DEACTIVATEd, with no DF_FLUSH since */
    uint64_t nv_address;        /* 0: none */
    SevIdentity identity;
    bool has_identity;
    SevEcKey cek;
    uint8_t chip_id[64];
} SevFirmware;

/*
 * Called by the device
 */

void sev_firmware_init(SevFirmware *fw);
void sev_firmware_destroy(SevFirmware *fw);

/*
 * Generate the chip's key and ID; the machine must already have processors with
 * SEV.  sev_firmware_power_off() frees what this has allocated.
 */
void sev_firmware_power_on(SevFirmware *fw);
void sev_firmware_power_off(SevFirmware *fw);

/* The machine is reset: all guests are forgotten */
void sev_firmware_reset(SevFirmware *fw);

/* What query-sev-platform returns; the caller frees it */
SevPlatformInfo *sev_firmware_query(SevFirmware *fw);

#define IN_UNINIT   (1 << SEV_PLATFORM_STATE_UNINIT)
#define IN_INIT     (1 << SEV_PLATFORM_STATE_INIT)
#define IN_WORKING  (1 << SEV_PLATFORM_STATE_WORKING)
#define IN_ANY      (IN_UNINIT | IN_INIT | IN_WORKING)

typedef struct SevCommand {
    uint16_t id;
    uint8_t states;             /* platform states in which it is valid */
    uint16_t len;               /* of the buffer */
    const char *name;
    SevStatus (*run)(SevFirmware *fw, SevGuest *g, void *buf);
    bool guest;                 /* the buffer begins with a guest's handle */
} SevCommand;

/* The command with this number, or NULL if there is none */
const SevCommand *sev_command_find(uint32_t id);

/*
 * Carry out @cmd with the buffer at the physical address @addr.  NULL is an
 * invalid command.  No processor may run meanwhile.
 */
SevStatus sev_command_run(SevFirmware *fw, const SevCommand *cmd,
                          uint64_t addr);

/*
 * Internals shared by the firmware's own files
 */

/* The commands; each table ends with an entry that has no name */
extern const SevCommand sev_platform_commands[];
extern const SevCommand sev_guest_commands[];

SevStatus sev_cmd_unsupported(SevFirmware *fw, SevGuest *g, void *buf);

/* Access to memory without a key, such as the buffers of commands */

static inline bool psp_read(uint64_t addr, void *buf, size_t len)
{
    return sev_memory_read(addr, buf, len, SEV_KEY_NONE);
}

static inline bool psp_write(uint64_t addr, const void *buf, size_t len)
{
    return sev_memory_write(addr, buf, len, SEV_KEY_NONE);
}

/* Buffers are packed, so members may be unaligned */
#define CMD_LEN(cmd, member) \
    ((void *)(cmd) + offsetof(typeof(*(cmd)), member))

/* Write to an output buffer; reports the required size to the guest */
SevStatus psp_output(uint64_t addr, void *len_le, const void *buf,
                     uint32_t len);

/* The guest with this handle, or NULL if the firmware knows none */
SevGuest *sev_guest_find(SevFirmware *fw, uint32_t handle);
uint32_t sev_guest_count(SevFirmware *fw);
/* Take the guest's ASID away, if it has one */
void sev_guest_deactivate(SevFirmware *fw, SevGuest *g);
/* Deactivate the guest, and forget it */
void sev_guest_free(SevFirmware *fw, SevGuest *g);

/* Forget all guests, and return to state UNINIT; the identity is kept */
void sev_platform_reset(SevFirmware *fw);

#endif
