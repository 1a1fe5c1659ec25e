/*
 * Emulated AMD Platform Security Processor: firmware state, dispatch
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The state of the SEV firmware, and the dispatch of commands: platform
 * commands are in amd-psp-platform.c, guest commands in amd-psp-guest.c.
 * States and status codes are those of the Secure Encrypted Virtualization API,
 * publication 55766, revision 3.24.
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qapi/error.h"
#include "qapi/util.h"
#include "crypto/random.h"
#include "tcg/sev_es.h"
#include "amd-psp-firmware.h"

/* Maximum size of a command buffer, in bytes */
#define SEV_MAX_BUFFER          128

SevStatus psp_output(uint64_t addr, void *len_le, const void *buf,
                     uint32_t len)
{
    uint32_t has = ldl_le_p(len_le);

    stl_le_p(len_le, len);
    if (has < len || !addr) {
        return SEV_INVALID_LENGTH;
    }
    return psp_write(addr, buf, len) ? SEV_SUCCESS : SEV_INVALID_ADDRESS;
}

/* Guests */

SevGuest *sev_guest_find(SevFirmware *fw, uint32_t handle)
{
    SevGuest *g;

    QTAILQ_FOREACH(g, &fw->guests, next) {
        if (g->handle == handle) {
            return g;
        }
    }
    return NULL;
}

void sev_guest_deactivate(SevFirmware *fw, SevGuest *g)
{
    if (g->asid) {
        sev_memory_bind(g->asid, SEV_KEY_NONE);
        fw->asid_dirty[g->asid] = true;
        g->asid = 0;
    }
}

void sev_guest_free(SevFirmware *fw, SevGuest *g)
{
    SevGuest *other;

    sev_guest_deactivate(fw, g);
    QTAILQ_REMOVE(&fw->guests, g, next);
    QTAILQ_FOREACH(other, &fw->guests, next) {
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

uint32_t sev_guest_count(SevFirmware *fw)
{
    uint32_t n = 0;
    SevGuest *g;

    QTAILQ_FOREACH(g, &fw->guests, next) {
        n++;
    }
    return n;
}

void sev_platform_reset(SevFirmware *fw)
{
    SevGuest *g, *next;

    QTAILQ_FOREACH_SAFE(g, &fw->guests, next, next) {
        sev_guest_free(fw, g);
    }
    fw->state = SEV_PLATFORM_STATE_UNINIT;
    fw->config_es = false;
    fw->nv_address = 0;
}

/* Commands */

SevStatus sev_cmd_unsupported(SevFirmware *fw, SevGuest *g, void *buf)
{
    return SEV_UNSUPPORTED;
}

static const SevCommand *command_in(const SevCommand *commands, uint32_t id)
{
    for (; commands->name; commands++) {
        if (commands->id == id) {
            return commands;
        }
    }
    return NULL;
}

const SevCommand *sev_command_find(uint32_t id)
{
    return command_in(sev_platform_commands, id) ?:
           command_in(sev_guest_commands, id);
}

SevStatus sev_command_run(SevFirmware *fw, const SevCommand *cmd,
                          uint64_t addr)
{
    uint8_t buf[SEV_MAX_BUFFER] = { 0 };
    SevGuest *g = NULL;
    SevStatus status;

    QEMU_LOCK_GUARD(&fw->lock);
    if (!cmd) {
        return SEV_INVALID_COMMAND;
    }
    if (!(cmd->states & (1 << fw->state))) {
        return SEV_INVALID_PLATFORM_STATE;
    }
    assert(cmd->len <= sizeof(buf));
    if (cmd->len && !psp_read(addr, buf, cmd->len)) {
        return SEV_INVALID_ADDRESS;
    }
    if (cmd->guest) {
        g = sev_guest_find(fw, ldl_le_p(buf));
        if (!g) {
            return SEV_INVALID_GUEST;
        }
    }
    status = cmd->run(fw, g, buf);
    if (cmd->len) {
        psp_write(addr, buf, cmd->len);
    }
    return status;
}

/* Queries */

SevPlatformInfo *sev_firmware_query(SevFirmware *fw)
{
    SevPlatformInfo *info = g_new0(SevPlatformInfo, 1);
    SevPlatformGuestList **tail = &info->guests;
    SevGuest *g;

    QEMU_LOCK_GUARD(&fw->lock);
    info->state = fw->state;
    info->api_major = SEV_API_MAJOR;
    info->api_minor = SEV_API_MINOR;
    info->build_id = SEV_API_BUILD;
    info->es = fw->config_es;
    info->owned = fw->has_identity && fw->identity.owned;
    info->asids = sev_memory_asids();
    info->min_asid = sev_memory_min_asid();
    QTAILQ_FOREACH(g, &fw->guests, next) {
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

/* Initialization and reset */

void sev_firmware_reset(SevFirmware *fw)
{
    QEMU_LOCK_GUARD(&fw->lock);
    sev_platform_reset(fw);
    memset(fw->asid_dirty, 0, sizeof(bool) * (sev_memory_asids() + 1));
}

void sev_firmware_power_on(SevFirmware *fw)
{
    fw->asid_dirty = g_new0(bool, sev_memory_asids() + 1);
    fw->next_handle = 1;
    sev_ec_generate(&fw->cek);
    qcrypto_random_bytes(fw->chip_id, sizeof(fw->chip_id), &error_fatal);
}

void sev_firmware_power_off(SevFirmware *fw)
{
    g_free(fw->asid_dirty);
}

void sev_firmware_init(SevFirmware *fw)
{
    qemu_mutex_init(&fw->lock);
    QTAILQ_INIT(&fw->guests);
}

void sev_firmware_destroy(SevFirmware *fw)
{
    qemu_mutex_destroy(&fw->lock);
}
