/*
 * Emulated AMD Platform Security Processor: keys, certificates, sessions
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "crypto/random.h"
#include "amd-psp-crypto.h"
#include <nettle/aes.h>
#include <nettle/bignum.h>
#include <nettle/ctr.h>
#include <nettle/ecc.h>
#include <nettle/ecc-curve.h>
#include <nettle/ecdsa.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>

#define SEV_CURVE_P384 2
/* A signature covers everything before the first signature */
#define SEV_CERT_SIGNED offsetof(SevCert, sig)

static void sev_random(void *opaque, size_t len, uint8_t *buf)
{
    qcrypto_random_bytes(buf, len, &error_fatal);
}

/* Numbers are little endian in the firmware's data structures */
static void sev_put_number(uint8_t *to, const mpz_t n)
{
    uint8_t be[SEV_COORD_SIZE];

    nettle_mpz_get_str_256(sizeof(be), be, n);
    for (size_t i = 0; i < sizeof(be); i++) {
        to[i] = be[sizeof(be) - 1 - i];
    }
}

static void sev_get_number(mpz_t n, const uint8_t *from)
{
    uint8_t be[SEV_COORD_SIZE];

    for (size_t i = 0; i < sizeof(be); i++) {
        be[i] = from[sizeof(be) - 1 - i];
    }
    nettle_mpz_set_str_256_u(n, sizeof(be), be);
}

static void sev_ec_scalar(struct ecc_scalar *scalar, const SevEcKey *key)
{
    mpz_t d;
    int valid;

    nettle_mpz_init_set_str_256_u(d, sizeof(key->d), key->d);
    ecc_scalar_init(scalar, nettle_get_secp_384r1());
    valid = ecc_scalar_set(scalar, d);
    assert(valid);
    mpz_clear(d);
}

void sev_ec_generate(SevEcKey *key)
{
    struct ecc_scalar scalar;
    mpz_t d;

    ecc_scalar_init(&scalar, nettle_get_secp_384r1());
    ecc_scalar_random(&scalar, NULL, sev_random);
    mpz_init(d);
    ecc_scalar_get(&scalar, d);
    nettle_mpz_get_str_256(sizeof(key->d), key->d, d);
    mpz_clear(d);
    ecc_scalar_clear(&scalar);
}

/* The public key in @cert; false if it is not valid */
static bool sev_cert_point(struct ecc_point *point, const SevCert *cert)
{
    mpz_t x, y;
    bool valid;

    ecc_point_init(point, nettle_get_secp_384r1());
    mpz_init(x);
    mpz_init(y);
    sev_get_number(x, cert->qx);
    sev_get_number(y, cert->qy);
    valid = le32_to_cpu(cert->curve) == SEV_CURVE_P384 &&
            ecc_point_set(point, x, y);
    mpz_clear(x);
    mpz_clear(y);
    if (!valid) {
        ecc_point_clear(point);
    }
    return valid;
}

void sev_cert_make(SevCert *cert, const SevEcKey *key, uint32_t usage)
{
    struct ecc_scalar scalar;
    struct ecc_point point;
    mpz_t x, y;

    memset(cert, 0, sizeof(*cert));
    cert->version = cpu_to_le32(1);
    cert->api_major = SEV_API_MAJOR;
    cert->api_minor = SEV_API_MINOR;
    cert->usage = cpu_to_le32(usage);
    cert->algo = cpu_to_le32(usage == SEV_CERT_PDH ? SEV_ALGO_ECDH_SHA256 :
                             SEV_ALGO_ECDSA_SHA256);
    cert->curve = cpu_to_le32(SEV_CURVE_P384);
    for (int i = 0; i < 2; i++) {
        cert->sig[i].usage = cpu_to_le32(SEV_CERT_INVALID);
        cert->sig[i].algo = cpu_to_le32(SEV_ALGO_INVALID);
    }

    sev_ec_scalar(&scalar, key);
    ecc_point_init(&point, nettle_get_secp_384r1());
    ecc_point_mul_g(&point, &scalar);
    mpz_init(x);
    mpz_init(y);
    ecc_point_get(&point, x, y);
    sev_put_number(cert->qx, x);
    sev_put_number(cert->qy, y);
    mpz_clear(x);
    mpz_clear(y);
    ecc_point_clear(&point);
    ecc_scalar_clear(&scalar);
}

static void sev_cert_digest(uint8_t digest[SHA256_DIGEST_SIZE],
                            const SevCert *cert)
{
    struct sha256_ctx ctx;

    sha256_init(&ctx);
    sha256_update(&ctx, SEV_CERT_SIGNED, (const uint8_t *)cert);
    sha256_digest(&ctx, SHA256_DIGEST_SIZE, digest);
}

void sev_cert_sign(SevCert *cert, unsigned n, const SevEcKey *key,
                   uint32_t usage)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    struct dsa_signature signature;
    struct ecc_scalar scalar;

    sev_cert_digest(digest, cert);
    sev_ec_scalar(&scalar, key);
    dsa_signature_init(&signature);
    ecdsa_sign(&scalar, NULL, sev_random, sizeof(digest), digest, &signature);
    memset(&cert->sig[n], 0, sizeof(cert->sig[n]));
    cert->sig[n].usage = cpu_to_le32(usage);
    cert->sig[n].algo = cpu_to_le32(SEV_ALGO_ECDSA_SHA256);
    sev_put_number(cert->sig[n].r, signature.r);
    sev_put_number(cert->sig[n].s, signature.s);
    dsa_signature_clear(&signature);
    ecc_scalar_clear(&scalar);
}

bool sev_cert_verify(const SevCert *cert, const SevCert *issuer)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    struct dsa_signature signature;
    struct ecc_point point;
    bool valid = false;

    if (!sev_cert_point(&point, issuer)) {
        return false;
    }
    sev_cert_digest(digest, cert);
    dsa_signature_init(&signature);
    for (int i = 0; i < 2 && !valid; i++) {
        if (cert->sig[i].usage != issuer->usage ||
            le32_to_cpu(cert->sig[i].algo) != SEV_ALGO_ECDSA_SHA256) {
            continue;
        }
        sev_get_number(signature.r, cert->sig[i].r);
        sev_get_number(signature.s, cert->sig[i].s);
        valid = ecdsa_verify(&point, sizeof(digest), digest, &signature);
    }
    dsa_signature_clear(&signature);
    ecc_point_clear(&point);
    return valid;
}

bool sev_cert_valid(const SevCert *cert, uint32_t usage)
{
    struct ecc_point point;

    if (le32_to_cpu(cert->version) != 1 || le32_to_cpu(cert->usage) != usage ||
        le32_to_cpu(cert->algo) != (usage == SEV_CERT_PDH ?
                                    SEV_ALGO_ECDH_SHA256 :
                                    SEV_ALGO_ECDSA_SHA256) ||
        !sev_cert_point(&point, cert)) {
        return false;
    }
    ecc_point_clear(&point);
    return true;
}

static void sev_hmac(uint8_t mac[SEV_MAC_SIZE], const uint8_t *key,
                     size_t key_len, const struct iovec *iov, int iovcnt)
{
    struct hmac_sha256_ctx ctx;

    hmac_sha256_set_key(&ctx, key_len, key);
    for (int i = 0; i < iovcnt; i++) {
        hmac_sha256_update(&ctx, iov[i].iov_len, iov[i].iov_base);
    }
    hmac_sha256_digest(&ctx, SEV_MAC_SIZE, mac);
}

/*
 * NIST SP 800-108, counter mode, HMAC-SHA-256, for the 128 bits of a key:
 * appendix A of the specification
 */
static void sev_derive(uint8_t out[SEV_KEY_SIZE], const uint8_t *key,
                       size_t key_len, const char *label,
                       const uint8_t *context, size_t context_len)
{
    uint32_t counter = cpu_to_le32(1);
    uint32_t bits = cpu_to_le32(SEV_KEY_SIZE * 8);
    uint8_t mac[SEV_MAC_SIZE];
    struct iovec iov[] = {
        { &counter, sizeof(counter) },
        { (void *)label, strlen(label) + 1 },
        { (void *)context, context_len },
        { &bits, sizeof(bits) },
    };

    sev_hmac(mac, key, key_len, iov, ARRAY_SIZE(iov));
    memcpy(out, mac, SEV_KEY_SIZE);
}

static void sev_ctr(const uint8_t key[SEV_KEY_SIZE], const uint8_t iv[16],
                    uint8_t *to, const uint8_t *from, size_t len)
{
    struct aes128_ctx aes;
    uint8_t counter[16];

    memcpy(counter, iv, sizeof(counter));
    aes128_set_encrypt_key(&aes, key);
    ctr_crypt(&aes, (nettle_cipher_func *)aes128_encrypt, sizeof(counter),
              counter, len, to, from);
}

SevStatus sev_session_open(SevTransportKeys *keys, const SevEcKey *pdh,
                           const SevCert *owner, const SevSession *session,
                           uint32_t policy)
{
    uint8_t secret[SEV_P384_SIZE], master[SEV_KEY_SIZE];
    uint8_t kek[SEV_KEY_SIZE], kik[SEV_KEY_SIZE], mac[SEV_MAC_SIZE];
    uint32_t policy_le = cpu_to_le32(policy);
    struct iovec wrapped = { (void *)session->wrap_tk,
                             sizeof(session->wrap_tk) };
    struct iovec bound = { &policy_le, sizeof(policy_le) };
    struct ecc_point point;
    struct ecc_scalar scalar;
    mpz_t x;

    if (le32_to_cpu(owner->version) != 1 ||
        le32_to_cpu(owner->usage) != SEV_CERT_PDH ||
        !sev_cert_point(&point, owner)) {
        return SEV_INVALID_CERTIFICATE;
    }
    sev_ec_scalar(&scalar, pdh);
    ecc_point_mul(&point, &scalar, &point);
    mpz_init(x);
    ecc_point_get(&point, x, NULL);
    nettle_mpz_get_str_256(sizeof(secret), secret, x);
    mpz_clear(x);
    ecc_point_clear(&point);
    ecc_scalar_clear(&scalar);

    sev_derive(master, secret, sizeof(secret), "sev-master-secret",
               session->nonce, sizeof(session->nonce));
    sev_derive(kek, master, sizeof(master), "sev-kek", NULL, 0);
    sev_derive(kik, master, sizeof(master), "sev-kik", NULL, 0);

    sev_hmac(mac, kik, sizeof(kik), &wrapped, 1);
    if (!memeql_sec(mac, session->wrap_mac, sizeof(mac))) {
        return SEV_BAD_MEASUREMENT;
    }
    sev_ctr(kek, session->wrap_iv, (uint8_t *)keys, session->wrap_tk,
            sizeof(session->wrap_tk));
    sev_hmac(mac, keys->tik, sizeof(keys->tik), &bound, 1);
    if (!memeql_sec(mac, session->policy_mac, sizeof(mac))) {
        return SEV_BAD_MEASUREMENT;
    }
    return SEV_SUCCESS;
}

void sev_measure(uint8_t mac[SEV_MAC_SIZE], const SevTransportKeys *keys,
                 uint32_t policy, const uint8_t digest[SHA256_DIGEST_SIZE],
                 const uint8_t nonce[SEV_NONCE_SIZE])
{
    uint8_t head[] = { 0x04, SEV_API_MAJOR, SEV_API_MINOR, SEV_API_BUILD };
    uint32_t policy_le = cpu_to_le32(policy);
    struct iovec iov[] = {
        { head, sizeof(head) },
        { &policy_le, sizeof(policy_le) },
        { (void *)digest, SHA256_DIGEST_SIZE },
        { (void *)nonce, SEV_NONCE_SIZE },
    };

    sev_hmac(mac, keys->tik, sizeof(keys->tik), iov, ARRAY_SIZE(iov));
}

SevStatus sev_secret_open(const SevTransportKeys *keys,
                          const SevSecretHeader *header,
                          const uint8_t measure[SEV_MAC_SIZE],
                          uint32_t guest_len, uint8_t *data, uint32_t len)
{
    uint8_t type = 0x01;
    uint8_t mac[SEV_MAC_SIZE];
    uint32_t guest_len_le = cpu_to_le32(guest_len);
    uint32_t len_le = cpu_to_le32(len);
    struct iovec iov[] = {
        { &type, sizeof(type) },
        { (void *)&header->flags, sizeof(header->flags) },
        { (void *)header->iv, sizeof(header->iv) },
        { &guest_len_le, sizeof(guest_len_le) },
        { &len_le, sizeof(len_le) },
        { data, len },
        { (void *)measure, SEV_MAC_SIZE },
    };

    sev_hmac(mac, keys->tik, sizeof(keys->tik), iov, ARRAY_SIZE(iov));
    if (!memeql_sec(mac, header->mac, sizeof(mac))) {
        return SEV_BAD_MEASUREMENT;
    }
    sev_ctr(keys->tek, header->iv, data, data, len);
    return SEV_SUCCESS;
}
