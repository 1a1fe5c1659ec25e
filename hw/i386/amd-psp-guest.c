/*
 * Emulated AMD Platform Security Processor: guest commands
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A guest's life, launch and debugging: Secure Encrypted Virtualization API,
 * publication 55766, revision 3.24, chapter 6.
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "crypto/random.h"
#include "tcg/sev_es.h"
#include "amd-psp-firmware.h"

#define SEV_MAX_GUESTS          1024
/* Large data are processed in chunks of this size */
#define SEV_CHUNK               (64 * KiB)
#define SEV_MAX_SECRET          (16 * KiB)

typedef struct QEMU_PACKED SevHandle {
    uint32_t handle;
} SevHandle;

typedef struct QEMU_PACKED SevLaunchStart {
    uint32_t handle;
    uint32_t policy;
    uint64_t dh_address;
    uint32_t dh_len;
    uint32_t reserved;
    uint64_t session_address;
    uint32_t session_len;
} SevLaunchStart;

static SevStatus cmd_launch_start(SevFirmware *fw, SevGuest *g, void *buf)
{
    SevLaunchStart *cmd = buf;
    g_autofree SevGuest *new = g_new0(SevGuest, 1);
    uint32_t handle = le32_to_cpu(cmd->handle);
    SevGuest *sharer = NULL;
    SevStatus status;
    SevCert owner;
    SevSession session;

    new->policy = le32_to_cpu(cmd->policy);
    new->state = SEV_STATE_LAUNCH_UPDATE;
    /* the lowest version of the firmware that the owner accepts */
    if (((new->policy >> 16) & 0xff) > SEV_API_MAJOR ||
        (((new->policy >> 16) & 0xff) == SEV_API_MAJOR &&
         (new->policy >> 24) > SEV_API_MINOR)) {
        return SEV_POLICY_FAILURE;
    }
    if ((new->policy & SEV_POLICY_ES) && !fw->config_es) {
        return SEV_INVALID_CONFIG;
    }
    if (handle) {
        sharer = sev_guest_find(fw, handle);
        if (!sharer) {
            return SEV_INVALID_GUEST;
        }
        if ((sharer->policy | new->policy) & SEV_POLICY_NOKS ||
            sharer->policy != new->policy) {
            return SEV_POLICY_FAILURE;
        }
    }
    if (sev_guest_count(fw) == SEV_MAX_GUESTS) {
        return SEV_RESOURCE_LIMIT;
    }

    if (le64_to_cpu(cmd->dh_address) || le64_to_cpu(cmd->session_address)) {
        if (le32_to_cpu(cmd->dh_len) < sizeof(owner) ||
            le32_to_cpu(cmd->session_len) < sizeof(session)) {
            return SEV_INVALID_LENGTH;
        }
        if (!psp_read(le64_to_cpu(cmd->dh_address), &owner, sizeof(owner)) ||
            !psp_read(le64_to_cpu(cmd->session_address), &session,
                      sizeof(session))) {
            return SEV_INVALID_ADDRESS;
        }
        status = sev_session_open(&new->transport, &fw->identity.pdh, &owner,
                                  &session, new->policy);
        if (status != SEV_SUCCESS) {
            return status;
        }
    } else {
        qcrypto_random_bytes(&new->transport, sizeof(new->transport),
                             &error_fatal);
    }

    if (sharer) {
        new->key = sharer->key;
        sev_key_ref(new->key);
    } else {
        new->key = sev_key_new();
    }
    do {
        new->handle = fw->next_handle++;
    } while (!new->handle || sev_guest_find(fw, new->handle));
    sha256_init(&new->launched);
    cmd->handle = cpu_to_le32(new->handle);
    QTAILQ_INSERT_TAIL(&fw->guests, new, next);
    g_steal_pointer(&new);
    fw->state = SEV_PLATFORM_STATE_WORKING;
    return SEV_SUCCESS;
}

typedef struct QEMU_PACKED SevActivate {
    uint32_t handle;
    uint32_t asid;
} SevActivate;

static SevStatus cmd_activate(SevFirmware *fw, SevGuest *g, void *buf)
{
    SevActivate *cmd = buf;
    uint32_t asid = le32_to_cpu(cmd->asid);
    SevGuest *other;

    if (g->asid) {
        return SEV_ACTIVE;
    }
    /* lower ASIDs are for guests with SEV-ES */
    if (!asid || asid > sev_memory_asids() ||
        (asid < sev_memory_min_asid()) != !!(g->policy & SEV_POLICY_ES)) {
        return SEV_INVALID_ASID;
    }
    QTAILQ_FOREACH(other, &fw->guests, next) {
        if (other->asid == asid && other->key != g->key) {
            return SEV_ASID_OWNED;
        }
    }
    if (fw->asid_dirty[asid]) {
        return SEV_DFFLUSH_REQUIRED;
    }
    sev_memory_bind(asid, g->key);
    g->asid = asid;
    return SEV_SUCCESS;
}

static SevStatus cmd_deactivate(SevFirmware *fw, SevGuest *g, void *buf)
{
    sev_guest_deactivate(fw, g);
    return SEV_SUCCESS;
}

static SevStatus cmd_decommission(SevFirmware *fw, SevGuest *g, void *buf)
{
    if (g->asid) {
        return SEV_ACTIVE;
    }
    sev_guest_free(fw, g);
    if (QTAILQ_EMPTY(&fw->guests)) {
        fw->state = SEV_PLATFORM_STATE_INIT;
    }
    return SEV_SUCCESS;
}

typedef struct QEMU_PACKED SevGuestStatus {
    uint32_t handle;
    uint32_t policy;
    uint32_t asid;
    uint8_t state;
} SevGuestStatus;

static SevStatus cmd_guest_status(SevFirmware *fw, SevGuest *g, void *buf)
{
    SevGuestStatus *cmd = buf;

    cmd->policy = cpu_to_le32(g->policy);
    cmd->asid = cpu_to_le32(g->asid);
    cmd->state = g->state;
    return SEV_SUCCESS;
}

typedef struct QEMU_PACKED SevLaunchUpdate {
    uint32_t handle;
    uint32_t reserved;
    uint64_t address;
    uint32_t len;
} SevLaunchUpdate;

/* Check a range of guest memory given to a command */
static SevStatus sev_guest_range(SevGuest *g, uint64_t addr, uint64_t len)
{
    if (!g->asid) {
        return SEV_INACTIVE;
    }
    if (!len || !QEMU_IS_ALIGNED(len, 16)) {
        return SEV_INVALID_LENGTH;
    }
    if (!QEMU_IS_ALIGNED(addr, 16) || !sev_memory_is_ram(addr, len)) {
        return SEV_INVALID_ADDRESS;
    }
    return SEV_SUCCESS;
}

/* Encrypt in place, and measure */
static SevStatus sev_launch_update(SevGuest *g, uint64_t addr, uint64_t len)
{
    g_autofree uint8_t *chunk = g_malloc(SEV_CHUNK);
    SevStatus status;

    if (g->state != SEV_STATE_LAUNCH_UPDATE) {
        return SEV_INVALID_GUEST_STATE;
    }
    status = sev_guest_range(g, addr, len);
    if (status != SEV_SUCCESS) {
        return status;
    }
    while (len) {
        size_t n = MIN(len, SEV_CHUNK);

        /* sev_guest_range() has checked that it is RAM */
        if (!psp_read(addr, chunk, n) ||
            !sev_memory_write(addr, chunk, n, g->key)) {
            return SEV_INVALID_ADDRESS;
        }
        sha256_update(&g->launched, n, chunk);
        addr += n;
        len -= n;
    }
    return SEV_SUCCESS;
}

static SevStatus cmd_launch_update_data(SevFirmware *fw, SevGuest *g, void *buf)
{
    SevLaunchUpdate *cmd = buf;

    return sev_launch_update(g, le64_to_cpu(cmd->address),
                             le32_to_cpu(cmd->len));
}

static SevStatus cmd_launch_update_vmsa(SevFirmware *fw, SevGuest *g, void *buf)
{
    SevLaunchUpdate *cmd = buf;
    uint64_t addr = le64_to_cpu(cmd->address);
    uint8_t content[TARGET_PAGE_SIZE];
    SevStatus status;

    if (!(g->policy & SEV_POLICY_ES)) {
        return SEV_POLICY_FAILURE;
    }
    if (le32_to_cpu(cmd->len) != TARGET_PAGE_SIZE) {
        return SEV_INVALID_LENGTH;
    }
    if (!QEMU_IS_ALIGNED(addr, TARGET_PAGE_SIZE) ||
        !psp_read(addr, content, sizeof(content))) {
        return SEV_INVALID_ADDRESS;
    }
    status = sev_launch_update(g, addr, TARGET_PAGE_SIZE);
    if (status == SEV_SUCCESS) {
        sev_es_vmsa_new(addr, g->key, content);
    }
    return status;
}

static SevStatus cmd_launch_measure(SevFirmware *fw, SevGuest *g, void *buf)
{
    SevLaunchUpdate *cmd = buf;
    uint8_t digest[SHA256_DIGEST_SIZE];
    struct sha256_ctx launched;
    struct {
        uint8_t mac[SEV_MAC_SIZE];
        uint8_t nonce[SEV_NONCE_SIZE];
    } out;
    SevStatus status;

    if (g->state != SEV_STATE_LAUNCH_UPDATE) {
        return SEV_INVALID_GUEST_STATE;
    }
    qcrypto_random_bytes(out.nonce, sizeof(out.nonce), &error_fatal);
    /* a caller that only queried the length will call again */
    launched = g->launched;
    sha256_digest(&launched, sizeof(digest), digest);
    sev_measure(out.mac, &g->transport, g->policy, digest, out.nonce);
    status = psp_output(le64_to_cpu(cmd->address), CMD_LEN(cmd, len), &out,
                        sizeof(out));
    if (status == SEV_SUCCESS) {
        memcpy(g->measure, out.mac, sizeof(g->measure));
        g->state = SEV_STATE_LAUNCH_SECRET;
    }
    return status;
}

typedef struct QEMU_PACKED SevLaunchSecret {
    uint32_t handle;
    uint32_t reserved1;
    uint64_t header_address;
    uint32_t header_len;
    uint32_t reserved2;
    uint64_t guest_address;
    uint32_t guest_len;
    uint32_t reserved3;
    uint64_t trans_address;
    uint32_t trans_len;
} SevLaunchSecret;

static SevStatus cmd_launch_update_secret(SevFirmware *fw, SevGuest *g,
                                          void *buf)
{
    SevLaunchSecret *cmd = buf;
    uint32_t guest_len = le32_to_cpu(cmd->guest_len);
    uint32_t len = le32_to_cpu(cmd->trans_len);
    g_autofree uint8_t *data = NULL;
    SevSecretHeader header;
    SevStatus status;

    if (g->state != SEV_STATE_LAUNCH_SECRET) {
        return SEV_INVALID_GUEST_STATE;
    }
    status = sev_guest_range(g, le64_to_cpu(cmd->guest_address), guest_len);
    if (status != SEV_SUCCESS) {
        return status;
    }
    if (le32_to_cpu(cmd->header_len) < sizeof(header) ||
        len > SEV_MAX_SECRET || len != guest_len) {
        return SEV_INVALID_LENGTH;
    }
    data = g_malloc(len);
    if (!psp_read(le64_to_cpu(cmd->header_address), &header, sizeof(header)) ||
        !psp_read(le64_to_cpu(cmd->trans_address), data, len)) {
        return SEV_INVALID_ADDRESS;
    }
    if (header.flags) {
        return SEV_INVALID_PARAM;       /* compressed, or reserved */
    }
    status = sev_secret_open(&g->transport, &header, g->measure, guest_len,
                             data, len);
    if (status != SEV_SUCCESS) {
        return status;
    }
    return sev_memory_write(le64_to_cpu(cmd->guest_address), data, len,
                            g->key) ? SEV_SUCCESS : SEV_INVALID_ADDRESS;
}

static SevStatus cmd_launch_finish(SevFirmware *fw, SevGuest *g, void *buf)
{
    if (g->state != SEV_STATE_LAUNCH_SECRET) {
        return SEV_INVALID_GUEST_STATE;
    }
    g->state = SEV_STATE_RUNNING;
    return SEV_SUCCESS;
}

typedef struct QEMU_PACKED SevDbg {
    uint32_t handle;
    uint32_t reserved;
    uint64_t src_address;
    uint64_t dst_address;
    uint32_t len;
} SevDbg;

static SevStatus sev_dbg(SevGuest *g, SevDbg *cmd, bool encrypt)
{
    uint64_t src = le64_to_cpu(cmd->src_address);
    uint64_t dst = le64_to_cpu(cmd->dst_address);
    uint32_t len = le32_to_cpu(cmd->len);
    g_autofree uint8_t *chunk = g_malloc(SEV_CHUNK);
    SevStatus status;

    if (g->policy & SEV_POLICY_NODBG) {
        return SEV_POLICY_FAILURE;
    }
    status = sev_guest_range(g, src, len);
    if (status == SEV_SUCCESS) {
        status = sev_guest_range(g, dst, len);
    }
    if (status != SEV_SUCCESS) {
        return status;
    }
    while (len) {
        size_t n = MIN(len, SEV_CHUNK);

        if (!sev_memory_read(src, chunk, n, encrypt ? SEV_KEY_NONE : g->key) ||
            !sev_memory_write(dst, chunk, n, encrypt ? g->key : SEV_KEY_NONE)) {
            return SEV_INVALID_ADDRESS;
        }
        src += n;
        dst += n;
        len -= n;
    }
    return SEV_SUCCESS;
}

static SevStatus cmd_dbg_decrypt(SevFirmware *fw, SevGuest *g, void *buf)
{
    return sev_dbg(g, buf, false);
}

static SevStatus cmd_dbg_encrypt(SevFirmware *fw, SevGuest *g, void *buf)
{
    return sev_dbg(g, buf, true);
}

const SevCommand sev_guest_commands[] = {
    { 0x020, IN_WORKING, sizeof(SevHandle), "DECOMMISSION",
      cmd_decommission, true },
    { 0x021, IN_WORKING, sizeof(SevActivate), "ACTIVATE", cmd_activate, true },
    { 0x022, IN_WORKING, sizeof(SevHandle), "DEACTIVATE",
      cmd_deactivate, true },
    { 0x023, IN_WORKING, sizeof(SevGuestStatus), "GUEST_STATUS",
      cmd_guest_status, true },

    { 0x030, IN_INIT | IN_WORKING, sizeof(SevLaunchStart), "LAUNCH_START",
      cmd_launch_start },
    { 0x031, IN_WORKING, sizeof(SevLaunchUpdate), "LAUNCH_UPDATE_DATA",
      cmd_launch_update_data, true },
    { 0x032, IN_WORKING, sizeof(SevLaunchUpdate), "LAUNCH_UPDATE_VMSA",
      cmd_launch_update_vmsa, true },
    { 0x033, IN_WORKING, sizeof(SevLaunchUpdate), "LAUNCH_MEASURE",
      cmd_launch_measure, true },
    { 0x034, IN_WORKING, sizeof(SevLaunchSecret), "LAUNCH_UPDATE_SECRET",
      cmd_launch_update_secret, true },
    { 0x035, IN_WORKING, sizeof(SevHandle), "LAUNCH_FINISH",
      cmd_launch_finish, true },
    { 0x036, IN_WORKING, 0, "ATTESTATION", sev_cmd_unsupported },

    { 0x040, IN_WORKING, 0, "SEND_START", sev_cmd_unsupported },
    { 0x041, IN_WORKING, 0, "SEND_UPDATE_DATA", sev_cmd_unsupported },
    { 0x042, IN_WORKING, 0, "SEND_UPDATE_VMSA", sev_cmd_unsupported },
    { 0x043, IN_WORKING, 0, "SEND_FINISH", sev_cmd_unsupported },
    { 0x044, IN_WORKING, 0, "SEND_CANCEL", sev_cmd_unsupported },
    { 0x050, IN_INIT | IN_WORKING, 0, "RECEIVE_START", sev_cmd_unsupported },
    { 0x051, IN_WORKING, 0, "RECEIVE_UPDATE_DATA", sev_cmd_unsupported },
    { 0x052, IN_WORKING, 0, "RECEIVE_UPDATE_VMSA", sev_cmd_unsupported },
    { 0x053, IN_WORKING, 0, "RECEIVE_FINISH", sev_cmd_unsupported },

    { 0x060, IN_WORKING, sizeof(SevDbg), "DBG_DECRYPT", cmd_dbg_decrypt, true },
    { 0x061, IN_WORKING, sizeof(SevDbg), "DBG_ENCRYPT", cmd_dbg_encrypt, true },
    { }
};
