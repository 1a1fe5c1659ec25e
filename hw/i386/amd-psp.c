/*
 * Emulated AMD Platform Security Processor: the SEV firmware's mailbox
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * For software that wants to see a host with SEV where there is none: the keys
 * are real ones, but nothing keeps them.  Registers are those that Linux calls
 * pspv1 and sevv1 (drivers/crypto/ccp/sp-pci.c); commands, states and status
 * codes are those of the Secure Encrypted Virtualization API, publication
 * 55766, revision 3.24.
 *
 * A command is carried out while no processor runs: it may change what pages
 * hold that processors have in their TLB.  The answer comes from the main
 * loop, with an interrupt if the command asked for one.
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/lockable.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-misc-target.h"
#include "crypto/random.h"
#include "hw/pci/msi.h"
#include "hw/pci/pci_device.h"
#include "monitor/hmp-target.h"
#include "monitor/monitor.h"
#include "tcg/sev_es.h"
#include "tcg/sev_memory.h"
#include "amd-psp-crypto.h"
#include "trace.h"

#define TYPE_AMD_PSP "amd-psp"
OBJECT_DECLARE_SIMPLE_TYPE(AMDPSPState, AMD_PSP)

#define PCI_DEVICE_ID_AMD_PSP 0x1456
#define PSP_BAR 2
#define PSP_BAR_SIZE (1 * MiB)

/* Registers in the BAR */
#define PSP_CMDRESP         0x10580
#define PSP_CMDBUFF_LO      0x105e0
#define PSP_CMDBUFF_HI      0x105e4
#define PSP_FEATURE         0x105fc
#define PSP_INTEN           0x10610
#define PSP_INTSTS          0x10614

#define PSP_CMDRESP_RESPONSE    (1U << 31)
#define PSP_CMDRESP_CMD(r)      (((r) >> 16) & 0x7ff)
#define PSP_CMDRESP_IOC         (1U << 0)
#define PSP_FEATURE_SEV         (1U << 0)
#define PSP_INT_CMD_COMPLETE    (1U << 1)

/* Policy of a guest, section 2.1, table "Guest Policy Structure" */
#define SEV_POLICY_NODBG        (1U << 0)
#define SEV_POLICY_NOKS         (1U << 1)
#define SEV_POLICY_ES           (1U << 2)

#define SEV_INIT_FLAG_ES        (1U << 0)
#define SEV_TMR_SIZE            (1 * MiB)
#define SEV_NV_SIZE             (32 * KiB)
#define SEV_MAX_GUESTS          1024
/* Bytes of a command's buffer that a command here has at most */
#define SEV_MAX_BUFFER          128
/* What is processed at a time of what may be large */
#define SEV_CHUNK               (64 * KiB)
#define SEV_MAX_SECRET          (16 * KiB)

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

/* What outlives SHUTDOWN; INIT_EX gives it to the host to keep */
typedef struct SevIdentity {
    SevEcKey pek;
    SevEcKey oca;               /* not used where an owner's is imported */
    SevEcKey pdh;
    SevCert pek_cert;
    SevCert oca_cert;
    uint32_t owned;             /* by somebody outside */
} SevIdentity;

typedef struct SevNv {
    char magic[8];
    SevIdentity identity;
    uint8_t digest[SHA256_DIGEST_SIZE];
} SevNv;
QEMU_BUILD_BUG_ON(sizeof(SevNv) > SEV_NV_SIZE);
#define SEV_NV_MAGIC "SEVNV 01"

struct AMDPSPState {
    PCIDevice parent_obj;

    MemoryRegion bar;

    /* Registers, under the BQL */
    uint32_t cmdresp;
    uint32_t cmdbuff_lo;
    uint32_t cmdbuff_hi;
    uint32_t inten;
    uint32_t intsts;
    bool busy;
    uint32_t generation;        /* counts resets: late answers are not heard */

    /* The firmware: under the lock, as queries read it at any time */
    QemuMutex lock;
    SevPlatformState state;
    bool config_es;
    QTAILQ_HEAD(, SevGuest) guests;
    uint32_t next_handle;
    bool *asid_dirty;           /* was DEACTIVATEd, and no DF_FLUSH since */
    uint64_t nv_address;        /* 0: none */
    SevIdentity identity;
    bool has_identity;
    SevEcKey cek;
    uint8_t chip_id[64];
};

/* Access to memory without a key, as the buffers of commands are */

static bool psp_read(uint64_t addr, void *buf, size_t len)
{
    return sev_memory_read(addr, buf, len, SEV_KEY_NONE);
}

static bool psp_write(uint64_t addr, const void *buf, size_t len)
{
    return sev_memory_write(addr, buf, len, SEV_KEY_NONE);
}

/* Buffers are packed: a member's address may be an odd one */
#define CMD_LEN(cmd, member) \
    ((void *)(cmd) + offsetof(typeof(*(cmd)), member))

/* A buffer for output: the caller learns how long it must be, at least */
static SevStatus psp_output(uint64_t addr, void *len_le, const void *buf,
                            uint32_t len)
{
    uint32_t has = ldl_le_p(len_le);

    stl_le_p(len_le, len);
    if (has < len || !addr) {
        return SEV_INVALID_LENGTH;
    }
    return psp_write(addr, buf, len) ? SEV_SUCCESS : SEV_INVALID_ADDRESS;
}

/* Identity */

static void sev_identity_sign_pek(AMDPSPState *s)
{
    SevIdentity *id = &s->identity;

    sev_cert_make(&id->pek_cert, &id->pek, SEV_CERT_PEK);
    sev_cert_make(&id->oca_cert, &id->oca, SEV_CERT_OCA);
    sev_cert_sign(&id->oca_cert, 0, &id->oca, SEV_CERT_OCA);
    sev_cert_sign(&id->pek_cert, 0, &id->oca, SEV_CERT_OCA);
    sev_cert_sign(&id->pek_cert, 1, &s->cek, SEV_CERT_CEK);
}

static void sev_identity_generate(AMDPSPState *s)
{
    SevIdentity *id = &s->identity;

    sev_ec_generate(&id->pek);
    sev_ec_generate(&id->oca);
    sev_ec_generate(&id->pdh);
    id->owned = 0;
    sev_identity_sign_pek(s);
    s->has_identity = true;
}

static void sev_nv_digest(SevNv *nv, uint8_t *digest)
{
    struct sha256_ctx ctx;

    sha256_init(&ctx);
    sha256_update(&ctx, offsetof(SevNv, digest), (uint8_t *)nv);
    sha256_digest(&ctx, SHA256_DIGEST_SIZE, digest);
}

/* What INIT_EX was given memory for is kept up to date there */
static SevStatus sev_nv_save(AMDPSPState *s)
{
    g_autofree SevNv *nv = g_new0(SevNv, 1);

    if (!s->nv_address) {
        return SEV_SUCCESS;
    }
    memcpy(nv->magic, SEV_NV_MAGIC, sizeof(nv->magic));
    nv->identity = s->identity;
    sev_nv_digest(nv, nv->digest);
    return psp_write(s->nv_address, nv, sizeof(*nv)) ? SEV_SUCCESS :
           SEV_INVALID_ADDRESS;
}

static SevStatus sev_nv_load(AMDPSPState *s)
{
    g_autofree SevNv *nv = g_new0(SevNv, 1);
    uint8_t digest[SHA256_DIGEST_SIZE];

    if (!psp_read(s->nv_address, nv, sizeof(*nv))) {
        return SEV_INVALID_ADDRESS;
    }
    /* erased flash, or an empty file */
    if (buffer_is_zero(nv, sizeof(*nv)) || nv->magic[0] == (char)0xff) {
        sev_identity_generate(s);
        return SEV_SUCCESS;
    }
    sev_nv_digest(nv, digest);
    if (memcmp(nv->magic, SEV_NV_MAGIC, sizeof(nv->magic)) ||
        memcmp(nv->digest, digest, sizeof(digest))) {
        return SEV_SECURE_DATA_INVALID;
    }
    s->identity = nv->identity;
    s->has_identity = true;
    return SEV_SUCCESS;
}

/* Guests */

static SevGuest *sev_guest_find(AMDPSPState *s, uint32_t handle)
{
    SevGuest *g;

    QTAILQ_FOREACH(g, &s->guests, next) {
        if (g->handle == handle) {
            return g;
        }
    }
    return NULL;
}

static void sev_guest_deactivate(AMDPSPState *s, SevGuest *g)
{
    if (g->asid) {
        sev_memory_bind(g->asid, SEV_KEY_NONE);
        s->asid_dirty[g->asid] = true;
        g->asid = 0;
    }
}

static void sev_guest_free(AMDPSPState *s, SevGuest *g)
{
    SevGuest *other;

    sev_guest_deactivate(s, g);
    QTAILQ_REMOVE(&s->guests, g, next);
    QTAILQ_FOREACH(other, &s->guests, next) {
        if (other->key == g->key) {
            break;
        }
    }
    if (!other) {
        sev_es_vmsa_forget(g->key);
    }
    sev_key_unref(g->key);
    g_free(g);
}

static void sev_platform_reset(AMDPSPState *s)
{
    SevGuest *g, *next;

    QTAILQ_FOREACH_SAFE(g, &s->guests, next, next) {
        sev_guest_free(s, g);
    }
    s->state = SEV_PLATFORM_STATE_UNINIT;
    s->config_es = false;
    s->nv_address = 0;
}

/* Platform commands, chapter 5 */

static SevStatus sev_init(AMDPSPState *s, uint32_t flags, uint64_t tmr,
                          uint32_t tmr_len)
{
    if (flags & ~SEV_INIT_FLAG_ES) {
        return SEV_INVALID_PARAM;
    }
    if (flags & SEV_INIT_FLAG_ES) {
        /* the trusted memory region, which this model does not use */
        if (!QEMU_IS_ALIGNED(tmr, SEV_TMR_SIZE) ||
            !sev_memory_is_ram(tmr, tmr_len)) {
            return SEV_INVALID_ADDRESS;
        }
        if (tmr_len < SEV_TMR_SIZE) {
            return SEV_INVALID_LENGTH;
        }
    }
    s->config_es = flags & SEV_INIT_FLAG_ES;
    s->state = SEV_PLATFORM_STATE_INIT;
    return SEV_SUCCESS;
}

typedef struct QEMU_PACKED SevInit {
    uint32_t flags;
    uint32_t reserved;
    uint64_t tmr_address;
    uint32_t tmr_len;
} SevInit;

static SevStatus cmd_init(AMDPSPState *s, SevGuest *g, void *buf)
{
    SevInit *cmd = buf;

    if (!s->has_identity) {
        sev_identity_generate(s);
    }
    return sev_init(s, le32_to_cpu(cmd->flags), le64_to_cpu(cmd->tmr_address),
                    le32_to_cpu(cmd->tmr_len));
}

typedef struct QEMU_PACKED SevInitEx {
    uint32_t length;
    uint32_t flags;
    uint64_t tmr_address;
    uint32_t tmr_len;
    uint32_t reserved;
    uint64_t nv_address;
    uint32_t nv_len;
} SevInitEx;

static SevStatus cmd_init_ex(AMDPSPState *s, SevGuest *g, void *buf)
{
    SevInitEx *cmd = buf;
    uint64_t nv = le64_to_cpu(cmd->nv_address);
    SevStatus status;

    if (le32_to_cpu(cmd->length) < sizeof(*cmd) ||
        le32_to_cpu(cmd->nv_len) != SEV_NV_SIZE) {
        return SEV_INVALID_LENGTH;
    }
    if (!nv || !QEMU_IS_ALIGNED(nv, TARGET_PAGE_SIZE) ||
        !sev_memory_is_ram(nv, SEV_NV_SIZE)) {
        return SEV_INVALID_ADDRESS;
    }
    s->nv_address = nv;
    status = sev_nv_load(s);
    if (status == SEV_SUCCESS) {
        status = sev_init(s, le32_to_cpu(cmd->flags),
                          le64_to_cpu(cmd->tmr_address),
                          le32_to_cpu(cmd->tmr_len));
    }
    if (status == SEV_SUCCESS) {
        status = sev_nv_save(s);
    } else {
        s->nv_address = 0;
    }
    return status;
}

static SevStatus cmd_shutdown(AMDPSPState *s, SevGuest *g, void *buf)
{
    sev_platform_reset(s);
    return SEV_SUCCESS;
}

static SevStatus cmd_platform_reset(AMDPSPState *s, SevGuest *g, void *buf)
{
    sev_identity_generate(s);
    return SEV_SUCCESS;
}

typedef struct QEMU_PACKED SevPlatformStatus {
    uint8_t api_major;
    uint8_t api_minor;
    uint8_t state;
    uint32_t flags;
    uint8_t build;
    uint32_t guest_count;
} SevPlatformStatus;

static uint32_t sev_guest_count(AMDPSPState *s)
{
    uint32_t n = 0;
    SevGuest *g;

    QTAILQ_FOREACH(g, &s->guests, next) {
        n++;
    }
    return n;
}

static SevStatus cmd_platform_status(AMDPSPState *s, SevGuest *g, void *buf)
{
    SevPlatformStatus *cmd = buf;

    cmd->api_major = SEV_API_MAJOR;
    cmd->api_minor = SEV_API_MINOR;
    cmd->build = SEV_API_BUILD;
    cmd->state = s->state;
    cmd->flags = cpu_to_le32((s->has_identity && s->identity.owned ? 1 : 0) |
                             (s->config_es ? 1 << 8 : 0));
    cmd->guest_count = cpu_to_le32(sev_guest_count(s));
    return SEV_SUCCESS;
}

static SevStatus cmd_pek_gen(AMDPSPState *s, SevGuest *g, void *buf)
{
    sev_identity_generate(s);
    return sev_nv_save(s);
}

typedef struct QEMU_PACKED SevBuffer {
    uint64_t address;
    uint32_t len;
} SevBuffer;

static SevStatus cmd_pek_csr(AMDPSPState *s, SevGuest *g, void *buf)
{
    SevBuffer *cmd = buf;
    SevCert csr;

    sev_cert_make(&csr, &s->identity.pek, SEV_CERT_PEK);
    return psp_output(le64_to_cpu(cmd->address), CMD_LEN(cmd, len), &csr,
                      sizeof(csr));
}

typedef struct QEMU_PACKED SevPekCertImport {
    uint64_t pek_address;
    uint32_t pek_len;
    uint32_t reserved;
    uint64_t oca_address;
    uint32_t oca_len;
} SevPekCertImport;

static SevStatus cmd_pek_cert_import(AMDPSPState *s, SevGuest *g, void *buf)
{
    SevPekCertImport *cmd = buf;
    SevIdentity *id = &s->identity;
    SevCert pek, oca;

    if (id->owned) {
        return SEV_ALREADY_OWNED;
    }
    if (le32_to_cpu(cmd->pek_len) != sizeof(pek) ||
        le32_to_cpu(cmd->oca_len) != sizeof(oca)) {
        return SEV_INVALID_LENGTH;
    }
    if (!psp_read(le64_to_cpu(cmd->pek_address), &pek, sizeof(pek)) ||
        !psp_read(le64_to_cpu(cmd->oca_address), &oca, sizeof(oca))) {
        return SEV_INVALID_ADDRESS;
    }
    if (!sev_cert_valid(&pek, SEV_CERT_PEK) ||
        !sev_cert_valid(&oca, SEV_CERT_OCA) ||
        memcmp(pek.qx, id->pek_cert.qx, sizeof(pek.qx)) ||
        memcmp(pek.qy, id->pek_cert.qy, sizeof(pek.qy))) {
        return SEV_INVALID_CERTIFICATE;
    }
    if (!sev_cert_verify(&oca, &oca) || !sev_cert_verify(&pek, &oca)) {
        return SEV_BAD_SIGNATURE;
    }
    id->pek_cert = pek;
    id->oca_cert = oca;
    id->owned = 1;
    sev_cert_sign(&id->pek_cert,
                  le32_to_cpu(pek.sig[0].usage) == SEV_CERT_OCA ? 1 : 0,
                  &s->cek, SEV_CERT_CEK);
    sev_ec_generate(&id->pdh);
    return sev_nv_save(s);
}

static SevStatus cmd_pdh_gen(AMDPSPState *s, SevGuest *g, void *buf)
{
    sev_ec_generate(&s->identity.pdh);
    return sev_nv_save(s);
}

typedef struct QEMU_PACKED SevPdhCertExport {
    uint64_t pdh_address;
    uint32_t pdh_len;
    uint32_t reserved;
    uint64_t chain_address;
    uint32_t chain_len;
} SevPdhCertExport;

static SevStatus cmd_pdh_cert_export(AMDPSPState *s, SevGuest *g, void *buf)
{
    SevPdhCertExport *cmd = buf;
    SevIdentity *id = &s->identity;
    SevStatus pdh_status, chain_status;
    SevCert pdh, chain[3];

    sev_cert_make(&pdh, &id->pdh, SEV_CERT_PDH);
    sev_cert_sign(&pdh, 0, &id->pek, SEV_CERT_PEK);
    chain[0] = id->pek_cert;
    chain[1] = id->oca_cert;
    /* a real chip's is signed by AMD, on request, not by the chip */
    sev_cert_make(&chain[2], &s->cek, SEV_CERT_CEK);

    pdh_status = psp_output(le64_to_cpu(cmd->pdh_address),
                            CMD_LEN(cmd, pdh_len), &pdh, sizeof(pdh));
    chain_status = psp_output(le64_to_cpu(cmd->chain_address),
                              CMD_LEN(cmd, chain_len), chain, sizeof(chain));
    return pdh_status ? pdh_status : chain_status;
}

static SevStatus cmd_df_flush(AMDPSPState *s, SevGuest *g, void *buf)
{
    memset(s->asid_dirty, 0, sizeof(bool) * (sev_memory_asids() + 1));
    return SEV_SUCCESS;
}

static SevStatus cmd_get_id(AMDPSPState *s, SevGuest *g, void *buf)
{
    SevBuffer *cmd = buf;
    /* of the sockets 0 and 1; the latter is empty */
    uint8_t id[2 * sizeof(s->chip_id)] = { 0 };

    memcpy(id, s->chip_id, sizeof(s->chip_id));
    return psp_output(le64_to_cpu(cmd->address), CMD_LEN(cmd, len), id,
                      sizeof(id));
}

static SevStatus cmd_unsupported(AMDPSPState *s, SevGuest *g, void *buf)
{
    return SEV_UNSUPPORTED;
}

/* Guest commands, chapter 6 */

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

static SevStatus cmd_launch_start(AMDPSPState *s, SevGuest *g, void *buf)
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
    if ((new->policy & SEV_POLICY_ES) && !s->config_es) {
        return SEV_INVALID_CONFIG;
    }
    if (handle) {
        sharer = sev_guest_find(s, handle);
        if (!sharer) {
            return SEV_INVALID_GUEST;
        }
        if ((sharer->policy | new->policy) & SEV_POLICY_NOKS ||
            sharer->policy != new->policy) {
            return SEV_POLICY_FAILURE;
        }
    }
    if (sev_guest_count(s) == SEV_MAX_GUESTS) {
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
        status = sev_session_open(&new->transport, &s->identity.pdh, &owner,
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
        new->handle = s->next_handle++;
    } while (!new->handle || sev_guest_find(s, new->handle));
    sha256_init(&new->launched);
    cmd->handle = cpu_to_le32(new->handle);
    QTAILQ_INSERT_TAIL(&s->guests, new, next);
    g_steal_pointer(&new);
    s->state = SEV_PLATFORM_STATE_WORKING;
    return SEV_SUCCESS;
}

typedef struct QEMU_PACKED SevActivate {
    uint32_t handle;
    uint32_t asid;
} SevActivate;

static SevStatus cmd_activate(AMDPSPState *s, SevGuest *g, void *buf)
{
    SevActivate *cmd = buf;
    uint32_t asid = le32_to_cpu(cmd->asid);
    SevGuest *other;

    if (g->asid) {
        return SEV_ACTIVE;
    }
    /* the lower ones are for guests with SEV-ES */
    if (!asid || asid > sev_memory_asids() ||
        (asid < sev_memory_min_asid()) != !!(g->policy & SEV_POLICY_ES)) {
        return SEV_INVALID_ASID;
    }
    QTAILQ_FOREACH(other, &s->guests, next) {
        if (other->asid == asid && other->key != g->key) {
            return SEV_ASID_OWNED;
        }
    }
    if (s->asid_dirty[asid]) {
        return SEV_DFFLUSH_REQUIRED;
    }
    sev_memory_bind(asid, g->key);
    g->asid = asid;
    return SEV_SUCCESS;
}

static SevStatus cmd_deactivate(AMDPSPState *s, SevGuest *g, void *buf)
{
    sev_guest_deactivate(s, g);
    return SEV_SUCCESS;
}

static SevStatus cmd_decommission(AMDPSPState *s, SevGuest *g, void *buf)
{
    if (g->asid) {
        return SEV_ACTIVE;
    }
    sev_guest_free(s, g);
    if (QTAILQ_EMPTY(&s->guests)) {
        s->state = SEV_PLATFORM_STATE_INIT;
    }
    return SEV_SUCCESS;
}

typedef struct QEMU_PACKED SevGuestStatus {
    uint32_t handle;
    uint32_t policy;
    uint32_t asid;
    uint8_t state;
} SevGuestStatus;

static SevStatus cmd_guest_status(AMDPSPState *s, SevGuest *g, void *buf)
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

/* A guest's memory as a command gives it */
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

        /* sev_guest_range() has found it to be RAM */
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

static SevStatus cmd_launch_update_data(AMDPSPState *s, SevGuest *g, void *buf)
{
    SevLaunchUpdate *cmd = buf;

    return sev_launch_update(g, le64_to_cpu(cmd->address),
                             le32_to_cpu(cmd->len));
}

static SevStatus cmd_launch_update_vmsa(AMDPSPState *s, SevGuest *g, void *buf)
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

static SevStatus cmd_launch_measure(AMDPSPState *s, SevGuest *g, void *buf)
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
    /* who only asks for the length will come again */
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

static SevStatus cmd_launch_update_secret(AMDPSPState *s, SevGuest *g,
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

static SevStatus cmd_launch_finish(AMDPSPState *s, SevGuest *g, void *buf)
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

static SevStatus cmd_dbg_decrypt(AMDPSPState *s, SevGuest *g, void *buf)
{
    return sev_dbg(g, buf, false);
}

static SevStatus cmd_dbg_encrypt(AMDPSPState *s, SevGuest *g, void *buf)
{
    return sev_dbg(g, buf, true);
}

/* The mailbox */

#define IN_UNINIT   (1 << SEV_PLATFORM_STATE_UNINIT)
#define IN_INIT     (1 << SEV_PLATFORM_STATE_INIT)
#define IN_WORKING  (1 << SEV_PLATFORM_STATE_WORKING)
#define IN_ANY      (IN_UNINIT | IN_INIT | IN_WORKING)

typedef struct SevCommand {
    uint16_t id;
    uint8_t states;             /* of the platform */
    uint16_t len;               /* of the buffer */
    const char *name;
    SevStatus (*run)(AMDPSPState *s, SevGuest *g, void *buf);
    bool guest;                 /* the buffer begins with a guest's handle */
} SevCommand;

static const SevCommand sev_commands[] = {
    { 0x001, IN_UNINIT, sizeof(SevInit), "INIT", cmd_init },
    { 0x002, IN_ANY, 0, "SHUTDOWN", cmd_shutdown },
    { 0x003, IN_UNINIT, 0, "PLATFORM_RESET", cmd_platform_reset },
    { 0x004, IN_ANY, sizeof(SevPlatformStatus), "PLATFORM_STATUS",
      cmd_platform_status },
    { 0x005, IN_INIT, 0, "PEK_GEN", cmd_pek_gen },
    { 0x006, IN_INIT | IN_WORKING, sizeof(SevBuffer), "PEK_CSR", cmd_pek_csr },
    { 0x007, IN_INIT, sizeof(SevPekCertImport), "PEK_CERT_IMPORT",
      cmd_pek_cert_import },
    { 0x008, IN_INIT | IN_WORKING, sizeof(SevPdhCertExport), "PDH_CERT_EXPORT",
      cmd_pdh_cert_export },
    { 0x009, IN_INIT | IN_WORKING, 0, "PDH_GEN", cmd_pdh_gen },
    { 0x00a, IN_INIT | IN_WORKING, 0, "DF_FLUSH", cmd_df_flush },
    { 0x00b, IN_ANY, sizeof(SevBuffer), "DOWNLOAD_FIRMWARE", cmd_unsupported },
    { 0x00c, IN_ANY, sizeof(SevBuffer), "GET_ID", cmd_get_id },
    { 0x00d, IN_UNINIT, sizeof(SevInitEx), "INIT_EX", cmd_init_ex },

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
    { 0x036, IN_WORKING, 0, "ATTESTATION", cmd_unsupported },

    { 0x040, IN_WORKING, 0, "SEND_START", cmd_unsupported },
    { 0x041, IN_WORKING, 0, "SEND_UPDATE_DATA", cmd_unsupported },
    { 0x042, IN_WORKING, 0, "SEND_UPDATE_VMSA", cmd_unsupported },
    { 0x043, IN_WORKING, 0, "SEND_FINISH", cmd_unsupported },
    { 0x044, IN_WORKING, 0, "SEND_CANCEL", cmd_unsupported },
    { 0x050, IN_INIT | IN_WORKING, 0, "RECEIVE_START", cmd_unsupported },
    { 0x051, IN_WORKING, 0, "RECEIVE_UPDATE_DATA", cmd_unsupported },
    { 0x052, IN_WORKING, 0, "RECEIVE_UPDATE_VMSA", cmd_unsupported },
    { 0x053, IN_WORKING, 0, "RECEIVE_FINISH", cmd_unsupported },

    { 0x060, IN_WORKING, sizeof(SevDbg), "DBG_DECRYPT", cmd_dbg_decrypt, true },
    { 0x061, IN_WORKING, sizeof(SevDbg), "DBG_ENCRYPT", cmd_dbg_encrypt, true },
};

static const SevCommand *sev_command(uint32_t id)
{
    for (size_t i = 0; i < ARRAY_SIZE(sev_commands); i++) {
        if (sev_commands[i].id == id) {
            return &sev_commands[i];
        }
    }
    return NULL;
}

static SevStatus sev_run(AMDPSPState *s, const SevCommand *cmd, uint64_t addr)
{
    uint8_t buf[SEV_MAX_BUFFER] = { 0 };
    SevGuest *g = NULL;
    SevStatus status;

    QEMU_LOCK_GUARD(&s->lock);
    if (!cmd) {
        return SEV_INVALID_COMMAND;
    }
    if (!(cmd->states & (1 << s->state))) {
        return SEV_INVALID_PLATFORM_STATE;
    }
    assert(cmd->len <= sizeof(buf));
    if (cmd->len && !psp_read(addr, buf, cmd->len)) {
        return SEV_INVALID_ADDRESS;
    }
    if (cmd->guest) {
        g = sev_guest_find(s, ldl_le_p(buf));
        if (!g) {
            return SEV_INVALID_GUEST;
        }
    }
    status = cmd->run(s, g, buf);
    if (cmd->len) {
        psp_write(addr, buf, cmd->len);
    }
    return status;
}

typedef struct SevWork {
    AMDPSPState *s;
    uint32_t cmdresp;
    uint64_t addr;
    uint32_t generation;
    SevStatus status;
} SevWork;

static void psp_update_irq(AMDPSPState *s)
{
    PCIDevice *pci = PCI_DEVICE(s);

    if (!msi_enabled(pci)) {
        pci_set_irq(pci, !!(s->intsts & s->inten));
    }
}

/* In the main loop */
static void psp_answer(void *opaque)
{
    g_autofree SevWork *w = opaque;
    AMDPSPState *s = w->s;
    PCIDevice *pci = PCI_DEVICE(s);

    if (w->generation != s->generation) {
        return;
    }
    s->cmdresp = (s->cmdresp & ~0xffffU) | PSP_CMDRESP_RESPONSE | w->status;
    s->busy = false;
    if (w->cmdresp & PSP_CMDRESP_IOC) {
        s->intsts |= PSP_INT_CMD_COMPLETE;
        if ((s->inten & PSP_INT_CMD_COMPLETE) && msi_enabled(pci)) {
            msi_notify(pci, 0);
        }
        psp_update_irq(s);
    }
}

/* In a processor's thread; no processor runs */
static void psp_work(CPUState *cs, run_on_cpu_data data)
{
    SevWork *w = data.host_ptr;
    uint32_t id = PSP_CMDRESP_CMD(w->cmdresp);
    const SevCommand *cmd = sev_command(id);

    if (w->generation != qatomic_read(&w->s->generation)) {
        /* the machine was reset before it came to this */
        g_free(w);
        return;
    }
    sev_memory_flush_all();
    w->status = sev_run(w->s, cmd, w->addr);
    trace_amd_psp_command(id, cmd ? cmd->name : "?", w->addr, w->status);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), psp_answer, w);
}

static void psp_command(AMDPSPState *s, uint32_t value)
{
    SevWork *w;

    if (s->busy) {
        qemu_log_mask(LOG_GUEST_ERROR, "amd-psp: command 0x%x while another "
                      "one is carried out\n", PSP_CMDRESP_CMD(value));
        return;
    }
    s->busy = true;
    s->cmdresp = value & ~PSP_CMDRESP_RESPONSE;
    w = g_new0(SevWork, 1);
    w->s = s;
    w->cmdresp = value;
    w->addr = (uint64_t)s->cmdbuff_hi << 32 | s->cmdbuff_lo;
    w->generation = s->generation;
    async_safe_run_on_cpu(current_cpu ?: first_cpu, psp_work,
                          RUN_ON_CPU_HOST_PTR(w));
}

static uint64_t psp_mmio_read(void *opaque, hwaddr addr, unsigned size)
{
    AMDPSPState *s = opaque;

    switch (addr) {
    case PSP_CMDRESP:
        return s->cmdresp;
    case PSP_CMDBUFF_LO:
        return s->cmdbuff_lo;
    case PSP_CMDBUFF_HI:
        return s->cmdbuff_hi;
    case PSP_FEATURE:
        return PSP_FEATURE_SEV;
    case PSP_INTEN:
        return s->inten;
    case PSP_INTSTS:
        return s->intsts;
    default:
        return 0;
    }
}

static void psp_mmio_write(void *opaque, hwaddr addr, uint64_t value,
                           unsigned size)
{
    AMDPSPState *s = opaque;

    switch (addr) {
    case PSP_CMDRESP:
        psp_command(s, value);
        break;
    case PSP_CMDBUFF_LO:
        s->cmdbuff_lo = value;
        break;
    case PSP_CMDBUFF_HI:
        s->cmdbuff_hi = value;
        break;
    case PSP_INTEN:
        s->inten = value;
        psp_update_irq(s);
        break;
    case PSP_INTSTS:
        s->intsts &= ~value;
        psp_update_irq(s);
        break;
    }
}

static const MemoryRegionOps psp_ops = {
    .read = psp_mmio_read,
    .write = psp_mmio_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 8 },
    .impl = { .min_access_size = 4, .max_access_size = 4 },
};

/* Queries */

static SevPlatformInfo *psp_query(AMDPSPState *s)
{
    SevPlatformInfo *info = g_new0(SevPlatformInfo, 1);
    SevPlatformGuestList **tail = &info->guests;
    SevGuest *g;

    QEMU_LOCK_GUARD(&s->lock);
    info->state = s->state;
    info->api_major = SEV_API_MAJOR;
    info->api_minor = SEV_API_MINOR;
    info->build_id = SEV_API_BUILD;
    info->es = s->config_es;
    info->owned = s->has_identity && s->identity.owned;
    info->asids = sev_memory_asids();
    info->min_asid = sev_memory_min_asid();
    QTAILQ_FOREACH(g, &s->guests, next) {
        SevPlatformGuest *guest = g_new0(SevPlatformGuest, 1);

        guest->handle = g->handle;
        guest->policy = g->policy;
        guest->state = g->state;
        guest->has_asid = g->asid;
        guest->asid = g->asid;
        guest->pages = sev_key_pages(g->key);
        QAPI_LIST_APPEND(tail, guest);
    }
    return info;
}

SevPlatformInfo *qmp_query_sev_platform(Error **errp)
{
    Object *obj = object_resolve_path_type("", TYPE_AMD_PSP, NULL);

    if (!obj) {
        error_setg(errp, "there is no emulated SEV platform (-device "
                   TYPE_AMD_PSP ")");
        return NULL;
    }
    return psp_query(AMD_PSP(obj));
}

void hmp_info_sev_platform(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    g_autoptr(SevPlatformInfo) info = qmp_query_sev_platform(&err);
    SevPlatformGuestList *l;

    if (!info) {
        monitor_printf(mon, "%s\n", error_get_pretty(err));
        error_free(err);
        return;
    }
    monitor_printf(mon, "state: %s\n", SevPlatformState_str(info->state));
    monitor_printf(mon, "api version: %d.%d\n", info->api_major,
                   info->api_minor);
    monitor_printf(mon, "build: %d\n", info->build_id);
    monitor_printf(mon, "SEV-ES: %s\n", info->es ? "on" : "off");
    monitor_printf(mon, "owner: %s\n", info->owned ? "external" : "self");
    monitor_printf(mon, "ASIDs: %u, for guests without SEV-ES from %u on\n",
                   info->asids, info->min_asid);
    for (l = info->guests; l; l = l->next) {
        SevPlatformGuest *g = l->value;

        monitor_printf(mon, "guest %u: %s, policy 0x%x, ", g->handle,
                       SevState_str(g->state), g->policy);
        if (g->has_asid) {
            monitor_printf(mon, "ASID %u, ", g->asid);
        }
        monitor_printf(mon, "%" PRIu64 " pages\n", g->pages);
    }
}

/* Device */

static void psp_reset(DeviceState *dev)
{
    AMDPSPState *s = AMD_PSP(dev);

    s->cmdresp = 0;
    s->cmdbuff_lo = 0;
    s->cmdbuff_hi = 0;
    s->inten = 0;
    s->intsts = 0;
    s->busy = false;
    qatomic_inc(&s->generation);
    /* before the machine is complete, nothing can have happened */
    if (sev_memory_enabled) {
        QEMU_LOCK_GUARD(&s->lock);
        sev_platform_reset(s);
        memset(s->asid_dirty, 0, sizeof(bool) * (sev_memory_asids() + 1));
    }
}

static void psp_realize(PCIDevice *pci, Error **errp)
{
    AMDPSPState *s = AMD_PSP(pci);

    if (!sev_memory_asids()) {
        error_setg(errp, TYPE_AMD_PSP ": needs processors with SEV: "
                   "-accel tcg -cpu EPYC,sev=on");
        return;
    }
    if (object_resolve_path_type("", TYPE_AMD_PSP, NULL) != OBJECT(s)) {
        error_setg(errp, TYPE_AMD_PSP ": a machine has one");
        return;
    }
    pci->config[PCI_INTERRUPT_PIN] = 1;
    if (msi_init(pci, 0, 1, true, false, errp) < 0) {
        return;
    }
    memory_region_init_io(&s->bar, OBJECT(s), &psp_ops, s, TYPE_AMD_PSP,
                          PSP_BAR_SIZE);
    pci_register_bar(pci, PSP_BAR, PCI_BASE_ADDRESS_SPACE_MEMORY, &s->bar);

    s->asid_dirty = g_new0(bool, sev_memory_asids() + 1);
    s->next_handle = 1;
    sev_ec_generate(&s->cek);
    qcrypto_random_bytes(s->chip_id, sizeof(s->chip_id), &error_fatal);
}

static void psp_exit(PCIDevice *pci)
{
    AMDPSPState *s = AMD_PSP(pci);

    msi_uninit(pci);
    g_free(s->asid_dirty);
}

static void psp_init(Object *obj)
{
    AMDPSPState *s = AMD_PSP(obj);

    qemu_mutex_init(&s->lock);
    QTAILQ_INIT(&s->guests);
}

static void psp_finalize(Object *obj)
{
    qemu_mutex_destroy(&AMD_PSP(obj)->lock);
}

static void psp_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);

    pc->realize = psp_realize;
    pc->exit = psp_exit;
    pc->vendor_id = PCI_VENDOR_ID_AMD;
    pc->device_id = PCI_DEVICE_ID_AMD_PSP;
    pc->class_id = 0x1080;      /* other encryption controller */
    dc->desc = "AMD Platform Security Processor with SEV firmware (emulated)";
    dc->hotpluggable = false;
    /* no vmsd: sev_memory.c blocks migration, and says why */
    device_class_set_legacy_reset(dc, psp_reset);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo psp_info = {
    .name = TYPE_AMD_PSP,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(AMDPSPState),
    .instance_init = psp_init,
    .instance_finalize = psp_finalize,
    .class_init = psp_class_init,
    .interfaces = (InterfaceInfo[]) {
        { INTERFACE_CONVENTIONAL_PCI_DEVICE },
        { },
    },
};

static void psp_register_types(void)
{
    type_register_static(&psp_info);
}

type_init(psp_register_types)
