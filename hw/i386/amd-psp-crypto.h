/*
 * Emulated AMD Platform Security Processor: keys, certificates, sessions
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Section, table and command names: Secure Encrypted Virtualization API,
 * publication 55766, revision 3.24.
 */

#ifndef HW_MISC_AMD_PSP_CRYPTO_H
#define HW_MISC_AMD_PSP_CRYPTO_H

#include <nettle/sha2.h>

#define SEV_API_MAJOR 0
#define SEV_API_MINOR 24
#define SEV_API_BUILD 15

/* Status codes, chapter 4 */
typedef enum SevStatus {
    SEV_SUCCESS = 0x00,
    SEV_INVALID_PLATFORM_STATE = 0x01,
    SEV_INVALID_GUEST_STATE = 0x02,
    SEV_INVALID_CONFIG = 0x03,
    SEV_INVALID_LENGTH = 0x04,
    SEV_ALREADY_OWNED = 0x05,
    SEV_INVALID_CERTIFICATE = 0x06,
    SEV_POLICY_FAILURE = 0x07,
    SEV_INACTIVE = 0x08,
    SEV_INVALID_ADDRESS = 0x09,
    SEV_BAD_SIGNATURE = 0x0a,
    SEV_BAD_MEASUREMENT = 0x0b,
    SEV_ASID_OWNED = 0x0c,
    SEV_INVALID_ASID = 0x0d,
    SEV_WBINVD_REQUIRED = 0x0e,
    SEV_DFFLUSH_REQUIRED = 0x0f,
    SEV_INVALID_GUEST = 0x10,
    SEV_INVALID_COMMAND = 0x11,
    SEV_ACTIVE = 0x12,
    SEV_HWERROR_PLATFORM = 0x13,
    SEV_HWERROR_UNSAFE = 0x14,
    SEV_UNSUPPORTED = 0x15,
    SEV_INVALID_PARAM = 0x16,
    SEV_RESOURCE_LIMIT = 0x17,
    SEV_SECURE_DATA_INVALID = 0x18,
} SevStatus;

#define SEV_COORD_SIZE 72       /* of a curve's point in a certificate */
#define SEV_P384_SIZE 48

/* A private key on P-384, big endian; never zero, less than the order */
typedef struct SevEcKey {
    uint8_t d[SEV_P384_SIZE];
} SevEcKey;

typedef struct QEMU_PACKED SevCertSignature {
    uint32_t usage;
    uint32_t algo;
    uint8_t r[SEV_COORD_SIZE];  /* little endian, as s */
    uint8_t s[SEV_COORD_SIZE];
    uint8_t reserved[0x200 - 2 * SEV_COORD_SIZE];
} SevCertSignature;

/* Appendix C.1; all is little endian */
typedef struct QEMU_PACKED SevCert {
    uint32_t version;
    uint8_t api_major;
    uint8_t api_minor;
    uint16_t reserved;
    uint32_t usage;
    uint32_t algo;
    uint32_t curve;
    uint8_t qx[SEV_COORD_SIZE];
    uint8_t qy[SEV_COORD_SIZE];
    uint8_t reserved_key[0x404 - 4 - 2 * SEV_COORD_SIZE];
    SevCertSignature sig[2];
} SevCert;
QEMU_BUILD_BUG_ON(sizeof(SevCert) != 0x824);

enum {
    SEV_CERT_INVALID = 0x1000,
    SEV_CERT_OCA = 0x1001,      /* Owner Certificate Authority */
    SEV_CERT_PEK = 0x1002,      /* Platform Endorsement Key */
    SEV_CERT_PDH = 0x1003,      /* Platform Diffie-Hellman */
    SEV_CERT_CEK = 0x1004,      /* Chip Endorsement Key */
};

enum {
    SEV_ALGO_INVALID = 0,
    SEV_ALGO_ECDSA_SHA256 = 0x002,
    SEV_ALGO_ECDH_SHA256 = 0x003,
};

/* A new random key */
void sev_ec_generate(SevEcKey *key);

/* Set @cert to one for @key and @usage, without signatures */
void sev_cert_make(SevCert *cert, const SevEcKey *key, uint32_t usage);
/* Sign with @key, whose certificate has @usage; @n: which signature, 0 or 1 */
void sev_cert_sign(SevCert *cert, unsigned n, const SevEcKey *key,
                   uint32_t usage);
/* Whether one of the signatures of @cert was made with the key in @issuer */
bool sev_cert_verify(const SevCert *cert, const SevCert *issuer);
/* Whether @cert is well formed, and has @usage */
bool sev_cert_valid(const SevCert *cert, uint32_t usage);

#define SEV_KEY_SIZE 16
#define SEV_NONCE_SIZE 16
#define SEV_MAC_SIZE 32

/* LAUNCH_START's session data, section 6.2, table "Session Data Buffer" */
typedef struct QEMU_PACKED SevSession {
    uint8_t nonce[SEV_NONCE_SIZE];
    uint8_t wrap_tk[2 * SEV_KEY_SIZE];
    uint8_t wrap_iv[16];
    uint8_t wrap_mac[SEV_MAC_SIZE];
    uint8_t policy_mac[SEV_MAC_SIZE];
} SevSession;
QEMU_BUILD_BUG_ON(sizeof(SevSession) != 128);

/* Keys shared by a guest's owner and the platform */
typedef struct SevTransportKeys {
    uint8_t tek[SEV_KEY_SIZE];
    uint8_t tik[SEV_KEY_SIZE];
} SevTransportKeys;

/*
 * Unwrap the transport keys: @owner is the guest owner's Diffie-Hellman
 * certificate, @pdh the platform's key.
 */
SevStatus sev_session_open(SevTransportKeys *keys, const SevEcKey *pdh,
                           const SevCert *owner, const SevSession *session,
                           uint32_t policy);

/* LAUNCH_MEASURE: @digest covers everything that was launched */
void sev_measure(uint8_t mac[SEV_MAC_SIZE], const SevTransportKeys *keys,
                 uint32_t policy, const uint8_t digest[SHA256_DIGEST_SIZE],
                 const uint8_t nonce[SEV_NONCE_SIZE]);

/* LAUNCH_UPDATE_SECRET's packet header */
typedef struct QEMU_PACKED SevSecretHeader {
    uint32_t flags;
    uint8_t iv[16];
    uint8_t mac[SEV_MAC_SIZE];
} SevSecretHeader;
QEMU_BUILD_BUG_ON(sizeof(SevSecretHeader) != 52);

/* Check and decrypt @len bytes of @data in place */
SevStatus sev_secret_open(const SevTransportKeys *keys,
                          const SevSecretHeader *header,
                          const uint8_t measure[SEV_MAC_SIZE],
                          uint32_t guest_len, uint8_t *data, uint32_t len);

#endif
