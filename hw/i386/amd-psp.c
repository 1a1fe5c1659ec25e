/*
 * Emulated AMD Platform Security Processor: device and mailbox
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * For software that needs a host with SEV where there is none: the keys are
 * real, but nothing protects them.  Registers are those that Linux calls pspv1
 * and sevv1 (drivers/crypto/ccp/sp-pci.c).  The firmware, which executes the
 * commands, starts in amd-psp-firmware.c.
 *
 * A command is executed while no processor runs, because it may change the
 * content of pages that processors have in their TLBs.  The response comes from
 * the main loop, with an interrupt if the command requests one.
 */

#include "qemu/osdep.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-misc-target.h"
#include "hw/pci/msi.h"
#include "hw/pci/pci_device.h"
#include "monitor/hmp-target.h"
#include "monitor/monitor.h"
#include "amd-psp-firmware.h"
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
    uint32_t generation;        /* counts resets, to drop stale responses */

    SevFirmware firmware;
};

/* The mailbox */

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
    const SevCommand *cmd = sev_command_find(id);

    if (w->generation != qatomic_read(&w->s->generation)) {
        /* the machine has been reset in the meantime */
        g_free(w);
        return;
    }
    sev_memory_flush_all();
    w->status = sev_command_run(&w->s->firmware, cmd, w->addr);
    trace_amd_psp_command(id, cmd ? cmd->name : "?", w->addr, w->status);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), psp_answer, w);
}

static void psp_command(AMDPSPState *s, uint32_t value)
{
    SevWork *w;

    if (s->busy) {
        qemu_log_mask(LOG_GUEST_ERROR, "amd-psp: command 0x%x while another "
                      "one is in progress\n", PSP_CMDRESP_CMD(value));
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

SevPlatformInfo *qmp_query_sev_platform(Error **errp)
{
    Object *obj = object_resolve_path_type("", TYPE_AMD_PSP, NULL);

    if (!obj) {
        error_setg(errp, "there is no emulated SEV platform (-device "
                   TYPE_AMD_PSP ")");
        return NULL;
    }
    return sev_firmware_query(&AMD_PSP(obj)->firmware);
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
    /* there is nothing to reset before the machine is complete */
    if (sev_memory_enabled) {
        sev_firmware_reset(&s->firmware);
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

    sev_firmware_power_on(&s->firmware);
}

static void psp_exit(PCIDevice *pci)
{
    AMDPSPState *s = AMD_PSP(pci);

    msi_uninit(pci);
    sev_firmware_power_off(&s->firmware);
}

static void psp_init(Object *obj)
{
    sev_firmware_init(&AMD_PSP(obj)->firmware);
}

static void psp_finalize(Object *obj)
{
    sev_firmware_destroy(&AMD_PSP(obj)->firmware);
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
    /* no vmsd: sev_memory.c blocks migration */
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
