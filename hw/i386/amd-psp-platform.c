/*
 * Emulated AMD Platform Security Processor: platform commands
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The chip's identity, its certificates, and the life of the platform: Secure
 * Encrypted Virtualization API, publication 55766, revision 3.24, chapter 5.
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/units.h"
#include "amd-psp-firmware.h"

#define SEV_INIT_FLAG_ES        (1U << 0)
#define SEV_TMR_SIZE            (1 * MiB)
#define SEV_NV_SIZE             (32 * KiB)

typedef struct SevNv {
    char magic[8];
    SevIdentity identity;
    uint8_t digest[SHA256_DIGEST_SIZE];
} SevNv;
QEMU_BUILD_BUG_ON(sizeof(SevNv) > SEV_NV_SIZE);
#define SEV_NV_MAGIC "SEVNV 01"

/* Identity */

static void sev_identity_sign_pek(SevFirmware *fw)
{
    SevIdentity *id = &fw->identity;

    sev_cert_make(&id->pek_cert, &id->pek, SEV_CERT_PEK);
    sev_cert_make(&id->oca_cert, &id->oca, SEV_CERT_OCA);
    sev_cert_sign(&id->oca_cert, 0, &id->oca, SEV_CERT_OCA);
    sev_cert_sign(&id->pek_cert, 0, &id->oca, SEV_CERT_OCA);
    sev_cert_sign(&id->pek_cert, 1, &fw->cek, SEV_CERT_CEK);
}

static void sev_identity_generate(SevFirmware *fw)
{
    SevIdentity *id = &fw->identity;

    sev_ec_generate(&id->pek);
    sev_ec_generate(&id->oca);
    sev_ec_generate(&id->pdh);
    id->owned = 0;
    sev_identity_sign_pek(fw);
    fw->has_identity = true;
}

static void sev_nv_digest(SevNv *nv, uint8_t *digest)
{
    struct sha256_ctx ctx;

    sha256_init(&ctx);
    sha256_update(&ctx, offsetof(SevNv, digest), (uint8_t *)nv);
    sha256_digest(&ctx, SHA256_DIGEST_SIZE, digest);
}

/* Update the non-volatile data in the memory given to INIT_EX */
static SevStatus sev_nv_save(SevFirmware *fw)
{
    g_autofree SevNv *nv = g_new0(SevNv, 1);

    if (!fw->nv_address) {
        return SEV_SUCCESS;
    }
    memcpy(nv->magic, SEV_NV_MAGIC, sizeof(nv->magic));
    nv->identity = fw->identity;
    sev_nv_digest(nv, nv->digest);
    return psp_write(fw->nv_address, nv, sizeof(*nv)) ? SEV_SUCCESS :
           SEV_INVALID_ADDRESS;
}

static SevStatus sev_nv_load(SevFirmware *fw)
{
    g_autofree SevNv *nv = g_new0(SevNv, 1);
    uint8_t digest[SHA256_DIGEST_SIZE];

    if (!psp_read(fw->nv_address, nv, sizeof(*nv))) {
        return SEV_INVALID_ADDRESS;
    }
    /* erased flash, or an empty file */
    if (buffer_is_zero(nv, sizeof(*nv)) || nv->magic[0] == (char)0xff) {
        sev_identity_generate(fw);
        return SEV_SUCCESS;
    }
    sev_nv_digest(nv, digest);
    if (memcmp(nv->magic, SEV_NV_MAGIC, sizeof(nv->magic)) ||
        memcmp(nv->digest, digest, sizeof(digest))) {
        return SEV_SECURE_DATA_INVALID;
    }
    fw->identity = nv->identity;
    fw->has_identity = true;
    return SEV_SUCCESS;
}

/* Commands */

static SevStatus sev_init(SevFirmware *fw, uint32_t flags, uint64_t tmr,
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
    fw->config_es = flags & SEV_INIT_FLAG_ES;
    fw->state = SEV_PLATFORM_STATE_INIT;
    return SEV_SUCCESS;
}

typedef struct QEMU_PACKED SevInit {
    uint32_t flags;
    uint32_t reserved;
    uint64_t tmr_address;
    uint32_t tmr_len;
} SevInit;

static SevStatus cmd_init(SevFirmware *fw, SevGuest *g, void *buf)
{
    SevInit *cmd = buf;

    if (!fw->has_identity) {
        sev_identity_generate(fw);
    }
    return sev_init(fw, le32_to_cpu(cmd->flags), le64_to_cpu(cmd->tmr_address),
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

static SevStatus cmd_init_ex(SevFirmware *fw, SevGuest *g, void *buf)
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
    fw->nv_address = nv;
    status = sev_nv_load(fw);
    if (status == SEV_SUCCESS) {
        status = sev_init(fw, le32_to_cpu(cmd->flags),
                          le64_to_cpu(cmd->tmr_address),
                          le32_to_cpu(cmd->tmr_len));
    }
    if (status == SEV_SUCCESS) {
        status = sev_nv_save(fw);
    } else {
        fw->nv_address = 0;
    }
    return status;
}

static SevStatus cmd_shutdown(SevFirmware *fw, SevGuest *g, void *buf)
{
    sev_platform_reset(fw);
    return SEV_SUCCESS;
}

static SevStatus cmd_platform_reset(SevFirmware *fw, SevGuest *g, void *buf)
{
    sev_identity_generate(fw);
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

static SevStatus cmd_platform_status(SevFirmware *fw, SevGuest *g, void *buf)
{
    SevPlatformStatus *cmd = buf;

    cmd->api_major = SEV_API_MAJOR;
    cmd->api_minor = SEV_API_MINOR;
    cmd->build = SEV_API_BUILD;
    cmd->state = fw->state;
    cmd->flags = cpu_to_le32((fw->has_identity && fw->identity.owned ? 1 : 0) |
                             (fw->config_es ? 1 << 8 : 0));
    cmd->guest_count = cpu_to_le32(sev_guest_count(fw));
    return SEV_SUCCESS;
}

static SevStatus cmd_pek_gen(SevFirmware *fw, SevGuest *g, void *buf)
{
    sev_identity_generate(fw);
    return sev_nv_save(fw);
}

typedef struct QEMU_PACKED SevBuffer {
    uint64_t address;
    uint32_t len;
} SevBuffer;

static SevStatus cmd_pek_csr(SevFirmware *fw, SevGuest *g, void *buf)
{
    SevBuffer *cmd = buf;
    SevCert csr;

    sev_cert_make(&csr, &fw->identity.pek, SEV_CERT_PEK);
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

static SevStatus cmd_pek_cert_import(SevFirmware *fw, SevGuest *g, void *buf)
{
    SevPekCertImport *cmd = buf;
    SevIdentity *id = &fw->identity;
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
                  &fw->cek, SEV_CERT_CEK);
    sev_ec_generate(&id->pdh);
    return sev_nv_save(fw);
}

static SevStatus cmd_pdh_gen(SevFirmware *fw, SevGuest *g, void *buf)
{
    sev_ec_generate(&fw->identity.pdh);
    return sev_nv_save(fw);
}

typedef struct QEMU_PACKED SevPdhCertExport {
    uint64_t pdh_address;
    uint32_t pdh_len;
    uint32_t reserved;
    uint64_t chain_address;
    uint32_t chain_len;
} SevPdhCertExport;

static SevStatus cmd_pdh_cert_export(SevFirmware *fw, SevGuest *g, void *buf)
{
    SevPdhCertExport *cmd = buf;
    SevIdentity *id = &fw->identity;
    SevStatus pdh_status, chain_status;
    SevCert pdh, chain[3];

    sev_cert_make(&pdh, &id->pdh, SEV_CERT_PDH);
    sev_cert_sign(&pdh, 0, &id->pek, SEV_CERT_PEK);
    chain[0] = id->pek_cert;
    chain[1] = id->oca_cert;
    /* a real chip's is signed by AMD on request, not by the chip */
    sev_cert_make(&chain[2], &fw->cek, SEV_CERT_CEK);

    pdh_status = psp_output(le64_to_cpu(cmd->pdh_address),
                            CMD_LEN(cmd, pdh_len), &pdh, sizeof(pdh));
    chain_status = psp_output(le64_to_cpu(cmd->chain_address),
                              CMD_LEN(cmd, chain_len), chain, sizeof(chain));
    return pdh_status ? pdh_status : chain_status;
}

static SevStatus cmd_df_flush(SevFirmware *fw, SevGuest *g, void *buf)
{
    memset(fw->asid_dirty, 0, sizeof(bool) * (sev_memory_asids() + 1));
    return SEV_SUCCESS;
}

static SevStatus cmd_get_id(SevFirmware *fw, SevGuest *g, void *buf)
{
    SevBuffer *cmd = buf;
    /* for sockets 0 and 1; the latter is empty */
    uint8_t id[2 * sizeof(fw->chip_id)] = { 0 };

    memcpy(id, fw->chip_id, sizeof(fw->chip_id));
    return psp_output(le64_to_cpu(cmd->address), CMD_LEN(cmd, len), id,
                      sizeof(id));
}

const SevCommand sev_platform_commands[] = {
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
    { 0x00b, IN_ANY, sizeof(SevBuffer), "DOWNLOAD_FIRMWARE",
      sev_cmd_unsupported },
    { 0x00c, IN_ANY, sizeof(SevBuffer), "GET_ID", cmd_get_id },
    { 0x00d, IN_UNINIT, sizeof(SevInitEx), "INIT_EX", cmd_init_ex },
    { }
};
