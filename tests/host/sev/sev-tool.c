/*
 * What a host's administrator asks of /dev/sev, for the scenarios.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/psp-sev.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CERT_SIZE 0x824

static int sev;

/* The firmware's status code, or -1 with errno */
static int command(int cmd, void *data)
{
    struct sev_issue_cmd arg = { .cmd = cmd, .data = (uintptr_t)data };

    if (ioctl(sev, SEV_ISSUE_CMD, &arg) == 0) {
        return 0;
    }
    return arg.error ? (int)arg.error : -1;
}

static void must(const char *what, int status)
{
    if (status < 0) {
        fprintf(stderr, "sev-tool: %s: %s\n", what, strerror(errno));
    } else if (status > 0) {
        fprintf(stderr, "sev-tool: %s: firmware status 0x%02x\n", what, status);
    }
    if (status) {
        exit(1);
    }
}

static void expect(const char *what, int status, int wanted)
{
    if (status != wanted) {
        fprintf(stderr, "sev-tool: %s: firmware status %d, expected 0x%02x\n",
                what, status, wanted);
        exit(1);
    }
}

static void save(const char *name, const void *data, size_t len)
{
    FILE *f = fopen(name, "w");

    if (!f || fwrite(data, len, 1, f) != 1 || fclose(f)) {
        perror(name);
        exit(1);
    }
}

static void load(const char *name, void *data, size_t len)
{
    FILE *f = fopen(name, "r");

    if (!f || fread(data, len, 1, f) != 1) {
        perror(name);
        exit(1);
    }
    fclose(f);
}

static void status(void)
{
    static const char *const states[] = { "uninit", "init", "working" };
    struct sev_user_data_status s = { 0 };

    must("PLATFORM_STATUS", command(SEV_PLATFORM_STATUS, &s));
    printf("api %d.%d build %d state %s owner %s es %s guests %u\n",
           s.api_major, s.api_minor, s.build,
           s.state < 3 ? states[s.state] : "?",
           s.flags & 1 ? "external" : "self",
           s.flags & SEV_STATUS_FLAGS_CONFIG_ES ? "on" : "off",
           s.guest_count);
}

static void export(const char *pdh, const char *chain)
{
    uint8_t certs[4][CERT_SIZE];
    struct sev_user_data_pdh_cert_export e = {
        .pdh_cert_address = (uintptr_t)certs[0],
        .pdh_cert_len = 1,
        .cert_chain_address = (uintptr_t)certs[1],
        .cert_chain_len = 1,
    };

    expect("PDH_CERT_EXPORT to a short buffer",
           command(SEV_PDH_CERT_EXPORT, &e), SEV_RET_INVALID_LEN);
    if (e.pdh_cert_len != CERT_SIZE || e.cert_chain_len != 3 * CERT_SIZE) {
        fprintf(stderr, "sev-tool: lengths %u and %u\n", e.pdh_cert_len,
                e.cert_chain_len);
        exit(1);
    }
    must("PDH_CERT_EXPORT", command(SEV_PDH_CERT_EXPORT, &e));
    save(pdh, certs[0], CERT_SIZE);
    save(chain, certs[1], 3 * CERT_SIZE);
}

static void csr(const char *name)
{
    uint8_t cert[CERT_SIZE];
    struct sev_user_data_pek_csr c = {
        .address = (uintptr_t)cert, .length = sizeof(cert),
    };

    must("PEK_CSR", command(SEV_PEK_CSR, &c));
    save(name, cert, sizeof(cert));
}

static int import(const char *pek, const char *oca)
{
    uint8_t certs[2][CERT_SIZE];
    struct sev_user_data_pek_cert_import i = {
        .pek_cert_address = (uintptr_t)certs[0],
        .pek_cert_len = CERT_SIZE,
        .oca_cert_address = (uintptr_t)certs[1],
        .oca_cert_len = CERT_SIZE,
    };

    load(pek, certs[0], CERT_SIZE);
    load(oca, certs[1], CERT_SIZE);
    return command(SEV_PEK_CERT_IMPORT, &i);
}

static void id(void)
{
    uint8_t ids[128];
    struct sev_user_data_get_id2 g = {
        .address = (uintptr_t)ids, .length = sizeof(ids),
    };

    must("GET_ID", command(SEV_GET_ID2, &g));
    for (int i = 0; i < 64; i++) {
        printf("%02x", ids[i]);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    sev = open("/dev/sev", O_RDWR);
    if (sev < 0) {
        perror("/dev/sev");
        return 1;
    }
    if (!strcmp(what, "status")) {
        status();
    } else if (!strcmp(what, "export") && argc == 4) {
        export(argv[2], argv[3]);
    } else if (!strcmp(what, "csr") && argc == 3) {
        csr(argv[2]);
    } else if (!strcmp(what, "import") && argc == 4) {
        must("PEK_CERT_IMPORT", import(argv[2], argv[3]));
    } else if (!strcmp(what, "import-fails") && argc == 5) {
        expect("PEK_CERT_IMPORT", import(argv[2], argv[3]),
               strtol(argv[4], NULL, 0));
    } else if (!strcmp(what, "pek-gen")) {
        must("PEK_GEN", command(SEV_PEK_GEN, NULL));
    } else if (!strcmp(what, "pdh-gen")) {
        must("PDH_GEN", command(SEV_PDH_GEN, NULL));
    } else if (!strcmp(what, "reset")) {
        must("PLATFORM_RESET", command(SEV_FACTORY_RESET, NULL));
    } else if (!strcmp(what, "id")) {
        id();
    } else {
        fprintf(stderr, "usage: sev-tool status|export PDH CHAIN|csr FILE|"
                "import PEK OCA|import-fails PEK OCA STATUS|pek-gen|pdh-gen|"
                "reset|id\n");
        return 2;
    }
    return 0;
}
