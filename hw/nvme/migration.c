/*
 * QEMU NVM Express Controller: migration
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The migrated state consists of the registers, the queues, the features that
 * the host has set, the Asynchronous Event Requests that wait for an event, and
 * completions that the queue has no room for.  Other requests have completed
 * when the guest is stopped: vm_stop() drains the disks, and from then on the
 * queues are not processed (nvme_queues_stopped()), as the guest's memory may
 * already belong to another QEMU.
 *
 * Features that are not supported block migration: nvme_migration_init().
 *
 * Section and figure numbers: NVM Express Base Specification 1.4.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "block/nvme.h"
#include "hw/pci/msix.h"
#include "hw/qdev-properties.h"
#include "migration/blocker.h"
#include "migration/vmstate.h"
#include "system/block-backend.h"
#include "system/runstate.h"
#include "nvme.h"

typedef struct NvmeSavedNamespace {
    uint32_t nsid;
    uint64_t nsze;              /* logical blocks */
    bool attached;
    bool changed;               /* is in the Changed Namespace List */
    bool write_cache;
    uint8_t flbas;
    uint8_t dps;
    uint32_t err_rec;
} NvmeSavedNamespace;

/* State that NvmeCtrl does not have in a form that vmstate could describe */
struct NvmeSaved {
    uint64_t cap;
    uint32_t vs;
    int32_t ncqs;
    NvmeCQueue *cqs;
    int32_t nsqs;
    NvmeSQueue *sqs;
    int32_t ncompletions;
    NvmeRequest *completions;   /* in the order of their queue */
    int32_t naers;
    NvmeRequest *aers;
    int32_t nevents;
    NvmeAsyncEvent *events;
    int32_t nnamespaces;
    NvmeSavedNamespace *namespaces;
};

bool nvme_queues_stopped(void)
{
    return !runstate_is_running();
}

static void nvme_saved_clear(NvmeSaved *s)
{
    g_free(s->cqs);
    g_free(s->sqs);
    g_free(s->completions);
    g_free(s->aers);
    g_free(s->events);
    g_free(s->namespaces);
    *s = (NvmeSaved) { };
}

static const char *nvme_name(NvmeCtrl *n)
{
    return DEVICE(n)->canonical_path;
}

static int nvme_save_queues(NvmeCtrl *n)
{
    NvmeSaved *s = n->saved;
    uint32_t ncompletions = 0;
    NvmeRequest *req;

    for (int i = 0; i < n->params.max_ioqpairs + 1; i++) {
        s->ncqs += n->cq[i] != NULL;
        s->nsqs += n->sq[i] != NULL;
        if (n->cq[i]) {
            QTAILQ_FOREACH(req, &n->cq[i]->req_list, entry) {
                ncompletions++;
            }
        }
    }
    s->cqs = g_new0(NvmeCQueue, s->ncqs);
    s->sqs = g_new0(NvmeSQueue, s->nsqs);
    s->completions = g_new0(NvmeRequest, ncompletions);

    for (int i = 0, cqs = 0, sqs = 0; i < n->params.max_ioqpairs + 1; i++) {
        if (n->cq[i]) {
            s->cqs[cqs++] = *n->cq[i];
            QTAILQ_FOREACH(req, &n->cq[i]->req_list, entry) {
                NvmeRequest *saved = &s->completions[s->ncompletions++];

                saved->cqe = req->cqe;
                saved->cqe.sq_id = cpu_to_le16(req->sq->sqid);
                saved->status = req->status;
            }
        }
        if (!n->sq[i]) {
            continue;
        }
        s->sqs[sqs++] = *n->sq[i];
        QTAILQ_FOREACH(req, &n->sq[i]->out_req_list, entry) {
            if (i || req->cmd.opcode != NVME_ADM_CMD_ASYNC_EV_REQ) {
                error_report("%s: command 0x%x (opcode 0x%x) of submission "
                             "queue %d has not completed", nvme_name(n),
                             le16_to_cpu(req->cqe.cid), req->cmd.opcode, i);
                return -EBUSY;
            }
        }
    }

    s->naers = n->outstanding_aers;
    s->aers = g_new0(NvmeRequest, s->naers);
    for (int i = 0; i < s->naers; i++) {
        s->aers[i].cqe = n->aer_reqs[i]->cqe;
    }
    return 0;
}

static int nvme_pre_save(void *opaque)
{
    NvmeCtrl *n = opaque;
    NvmeSaved *s = n->saved;
    NvmeAsyncEvent *event;
    int count = 0;

    nvme_saved_clear(s);
    s->cap = ldq_le_p(&n->bar.cap);
    s->vs = ldl_le_p(&n->bar.vs);

    s->nevents = n->aer_queued;
    s->events = g_new0(NvmeAsyncEvent, s->nevents);
    QTAILQ_FOREACH(event, &n->aer_queue, entry) {
        s->events[count++].result = event->result;
    }

    s->namespaces = g_new0(NvmeSavedNamespace, NVME_MAX_NAMESPACES);
    for (uint32_t nsid = 1; nsid <= NVME_MAX_NAMESPACES; nsid++) {
        NvmeNamespace *ns = nvme_subsys_ns(n->subsys, nsid);

        if (ns) {
            s->namespaces[s->nnamespaces++] = (NvmeSavedNamespace) {
                .nsid = nsid,
                .nsze = le64_to_cpu(ns->id_ns.nsze),
                .attached = nvme_ns(n, nsid) != NULL,
                .changed = test_bit(nsid, n->changed_nsids),
                .write_cache = blk_enable_write_cache(ns->blkconf.blk),
                .flbas = ns->id_ns.flbas,
                .dps = ns->id_ns.dps,
                .err_rec = ns->features.err_rec,
            };
        }
    }
    return nvme_save_queues(n);
}

static int nvme_post_save(void *opaque)
{
    NvmeCtrl *n = opaque;

    nvme_saved_clear(n->saved);
    return 0;
}

static int nvme_pre_load(void *opaque)
{
    NvmeCtrl *n = opaque;

    nvme_saved_clear(n->saved);
    return 0;
}

/* Check the counts before anything is allocated according to them */
static bool nvme_counts_are_valid(void *opaque, int version_id)
{
    NvmeSaved *s = opaque;

    return s->ncqs >= 0 && s->ncqs <= UINT16_MAX + 1 &&
           s->nsqs >= 0 && s->nsqs <= UINT16_MAX + 1 &&
           s->ncompletions >= 0 &&
           s->ncompletions <= s->nsqs * (UINT16_MAX + 1LL) &&
           s->naers >= 0 && s->naers <= UINT8_MAX + 1 &&
           s->nevents >= 0 && s->nevents <= UINT16_MAX &&
           s->nnamespaces >= 0 && s->nnamespaces <= NVME_MAX_NAMESPACES;
}

static bool nvme_load_namespaces(NvmeCtrl *n, Error **errp)
{
    NvmeSaved *s = n->saved;
    uint32_t known = 0;

    for (uint32_t nsid = 1; nsid <= NVME_MAX_NAMESPACES; nsid++) {
        NvmeNamespace *ns = nvme_ns(n, nsid);

        known += nvme_subsys_ns(n->subsys, nsid) != NULL;
        if (ns) {
            n->namespaces[nsid] = NULL;
            ns->attached--;
        }
    }
    bitmap_zero(n->changed_nsids, NVME_CHANGED_NSID_SIZE);
    if (known != s->nnamespaces) {
        error_setg(errp, "received %" PRIi32 " namespaces, there are %" PRIu32
                   " here", s->nnamespaces, known);
        return false;
    }

    for (int i = 0; i < s->nnamespaces; i++) {
        NvmeSavedNamespace *saved = &s->namespaces[i];
        NvmeNamespace *ns = nvme_subsys_ns(n->subsys, saved->nsid);

        if (!ns) {
            error_setg(errp, "namespace %" PRIu32 " does not exist here",
                       saved->nsid);
            return false;
        }
        if (NVME_ID_NS_FLBAS_INDEX(saved->flbas) >= ns->nlbaf) {
            error_setg(errp, "namespace %" PRIu32 " has LBA format %d, there "
                       "are 0 to %u here", saved->nsid,
                       NVME_ID_NS_FLBAS_INDEX(saved->flbas), ns->nlbaf - 1);
            return false;
        }
        ns->id_ns.flbas = saved->flbas;
        ns->id_ns.dps = saved->dps;
        nvme_ns_init_format(ns);
        if (le64_to_cpu(ns->id_ns.nsze) != saved->nsze) {
            error_setg(errp, "namespace %" PRIu32 " has 0x%" PRIx64
                       " blocks, and 0x%" PRIx64 " here", saved->nsid,
                       saved->nsze, le64_to_cpu(ns->id_ns.nsze));
            return false;
        }
        /* nvme_set_feature(), Host Behavior Support */
        ns->id_ns.nlbaf = ns->nlbaf - 1;
        if (!n->features.hbs.lbafee) {
            ns->id_ns.nlbaf = MIN(ns->id_ns.nlbaf, 15);
        }
        ns->features.err_rec = saved->err_rec;
        blk_set_enable_write_cache(ns->blkconf.blk, saved->write_cache);
        if (saved->attached) {
            nvme_attach_ns(n, ns);
        }
        if (saved->changed) {
            set_bit(saved->nsid, n->changed_nsids);
        }
    }
    n->dmrsl = 0;
    nvme_update_dsm_limits(n, NULL);
    return true;
}

static bool nvme_load_cqs(NvmeCtrl *n, Error **errp)
{
    NvmeSaved *s = n->saved;
    PCIDevice *pci = PCI_DEVICE(n);

    for (int i = 0; i < s->ncqs; i++) {
        NvmeCQueue *saved = &s->cqs[i];
        NvmeCQueue *cq;

        if (saved->cqid > n->conf_ioqpairs || n->cq[saved->cqid]) {
            error_setg(errp, "received completion queue %u, expected ids up "
                       "to %" PRIu32 ", each only once", saved->cqid,
                       n->conf_ioqpairs);
            return false;
        }
        if (saved->size < 2 || saved->size > UINT16_MAX + 1 ||
            saved->head >= saved->size || saved->tail >= saved->size ||
            saved->phase > 1) {
            error_setg(errp, "completion queue %u: size %" PRIu32 ", head %"
                       PRIu32 ", tail %" PRIu32 ", phase %u are inconsistent",
                       saved->cqid, saved->size, saved->head, saved->tail,
                       saved->phase);
            return false;
        }
        if (saved->irq_enabled &&
            saved->vector >= (msix_enabled(pci) ? pci->msix_entries_nr : 32)) {
            error_setg(errp, "completion queue %u: interrupt vector %" PRIu32
                       " does not exist here", saved->cqid, saved->vector);
            return false;
        }

        cq = saved->cqid ? g_new0(NvmeCQueue, 1) : &n->admin_cq;
        nvme_init_cq(cq, n, saved->dma_addr, saved->cqid, saved->vector,
                     saved->size, saved->irq_enabled);
        cq->phase = saved->phase;
        cq->head = saved->head;
        cq->tail = saved->tail;
        cq->db_addr = saved->db_addr;
        cq->ei_addr = saved->ei_addr;
    }
    return true;
}

static bool nvme_load_sqs(NvmeCtrl *n, Error **errp)
{
    NvmeSaved *s = n->saved;

    for (int i = 0; i < s->nsqs; i++) {
        NvmeSQueue *saved = &s->sqs[i];
        NvmeSQueue *sq;

        if (saved->sqid > n->conf_ioqpairs || n->sq[saved->sqid]) {
            error_setg(errp, "received submission queue %u, expected ids up "
                       "to %" PRIu32 ", each only once", saved->sqid,
                       n->conf_ioqpairs);
            return false;
        }
        if (saved->cqid > n->conf_ioqpairs || !n->cq[saved->cqid] ||
            !saved->sqid != !saved->cqid) {
            error_setg(errp, "submission queue %u: completion queue %u is "
                       "not valid", saved->sqid, saved->cqid);
            return false;
        }
        if (saved->size < 2 || saved->size > UINT16_MAX + 1 ||
            saved->head >= saved->size || saved->tail >= saved->size) {
            error_setg(errp, "submission queue %u: size %" PRIu32 ", head %"
                       PRIu32 ", tail %" PRIu32 " are inconsistent",
                       saved->sqid, saved->size, saved->head, saved->tail);
            return false;
        }

        sq = saved->sqid ? g_new0(NvmeSQueue, 1) : &n->admin_sq;
        nvme_init_sq(sq, n, saved->dma_addr, saved->sqid, saved->cqid,
                     saved->size);
        sq->head = saved->head;
        sq->tail = saved->tail;
        sq->db_addr = saved->db_addr;
        sq->ei_addr = saved->ei_addr;
    }
    return true;
}

/* Recreate a request of queue @sqid of the source; it is not on any list */
static NvmeRequest *nvme_load_request(NvmeCtrl *n, uint16_t sqid,
                                      const NvmeCqe *cqe, Error **errp)
{
    NvmeSQueue *sq = sqid <= n->conf_ioqpairs ? n->sq[sqid] : NULL;
    NvmeRequest *req;

    if (!sq) {
        error_setg(errp, "command 0x%x belongs to submission queue %u, which "
                   "does not exist", le16_to_cpu(cqe->cid), sqid);
        return NULL;
    }
    req = QTAILQ_FIRST(&sq->req_list);
    if (!req) {
        error_setg(errp, "command 0x%x exceeds the capacity of submission "
                   "queue %u", le16_to_cpu(cqe->cid), sqid);
        return NULL;
    }
    QTAILQ_REMOVE(&sq->req_list, req, entry);
    req->cqe = *cqe;
    return req;
}

static bool nvme_load_requests(NvmeCtrl *n, Error **errp)
{
    NvmeSaved *s = n->saved;
    NvmeRequest *req;

    if (s->naers > n->params.aerl + 1 ||
        s->nevents > n->params.aer_max_queued) {
        error_setg(errp, "received %" PRIi32 " Asynchronous Event Requests and "
                   "%" PRIi32 " events, more than aerl=%u and aer_max_queued=%"
                   PRIu32 " allow", s->naers, s->nevents, n->params.aerl,
                   n->params.aer_max_queued);
        return false;
    }
    n->outstanding_aers = 0;
    for (int i = 0; i < s->naers; i++) {
        req = nvme_load_request(n, 0, &s->aers[i].cqe, errp);
        if (!req) {
            return false;
        }
        req->cmd.opcode = NVME_ADM_CMD_ASYNC_EV_REQ;
        req->cmd.cid = req->cqe.cid;
        QTAILQ_INSERT_TAIL(&n->admin_sq.out_req_list, req, entry);
        n->aer_reqs[n->outstanding_aers++] = req;
    }

    for (int i = 0; i < s->ncompletions; i++) {
        NvmeRequest *saved = &s->completions[i];

        req = nvme_load_request(n, le16_to_cpu(saved->cqe.sq_id), &saved->cqe,
                                errp);
        if (!req) {
            return false;
        }
        req->status = saved->status;
        QTAILQ_INSERT_TAIL(&nvme_cq(req)->req_list, req, entry);
    }

    for (int i = 0; i < s->nevents; i++) {
        NvmeAsyncEvent *event = g_new0(NvmeAsyncEvent, 1);

        event->result = s->events[i].result;
        QTAILQ_INSERT_TAIL(&n->aer_queue, event, entry);
        n->aer_queued++;
    }
    return true;
}

static int nvme_post_load(void *opaque, int version_id)
{
    NvmeCtrl *n = opaque;
    NvmeSaved *s = n->saved;
    uint64_t cap = ldq_le_p(&n->bar.cap);
    Error *err = NULL;

    if (s->cap != cap || s->vs != ldl_le_p(&n->bar.vs)) {
        error_setg(&err, "received CAP 0x%" PRIx64 ", VS 0x%" PRIx32
                   ", but the options here result in 0x%" PRIx64 ", 0x%" PRIx32,
                   s->cap, s->vs, cap, ldl_le_p(&n->bar.vs));
    } else if (n->cq[0] || n->sq[0]) {
        error_setg(&err, "the controller is not reset");
    } else {
        /* nvme_start_ctrl() */
        n->page_bits = NVME_CC_MPS(ldl_le_p(&n->bar.cc)) + 12;
        n->page_size = 1 << n->page_bits;
        n->max_prp_ents = n->page_size / sizeof(uint64_t);
    }
    if (err || !nvme_load_namespaces(n, &err) || !nvme_load_cqs(n, &err) ||
        !nvme_load_sqs(n, &err) || !nvme_load_requests(n, &err)) {
        error_prepend(&err, "%s: ", nvme_name(n));
        error_report_err(err);
        return -EINVAL;
    }
    nvme_saved_clear(s);
    return 0;
}

/* Resume the queues, which were stopped along with the guest */
static void nvme_vm_change_state(void *opaque, bool running, RunState state)
{
    NvmeCtrl *n = opaque;

    for (int i = 0; running && i < n->params.max_ioqpairs + 1; i++) {
        if (n->sq[i]) {
            qemu_bh_schedule(n->sq[i]->bh);
        }
        if (n->cq[i]) {
            qemu_bh_schedule(n->cq[i]->bh);
        }
    }
}

static bool nvme_block_migration(Error **blocker, DeviceState *dev,
                                 const char *what, Error **errp)
{
    g_autofree char *path = object_get_canonical_path(OBJECT(dev));

    error_setg(blocker, "%s of device '%s' can't be migrated", what, path);
    return migrate_add_blocker_modes(blocker, errp, MIG_MODE_ALL) == 0;
}

bool nvme_migration_init(NvmeCtrl *n, bool own_subsys, Error **errp)
{
    const char *what = n->params.cmb_size_mb ? "cmb_size_mb" :
                       n->pmr.dev ? "pmrdev" :
                       n->params.sriov_max_vfs ? "sriov_max_vfs" :
                       PCI_DEVICE(n)->spdm_port ? "spdm_port" :
                       !own_subsys ? "subsys" : NULL;

    n->saved = g_new0(NvmeSaved, 1);
    if (what && !pci_is_vf(PCI_DEVICE(n)) &&
        !nvme_block_migration(&n->migration_blocker, DEVICE(n), what, errp)) {
        return false;
    }
    n->vm_change_state = qdev_add_vm_change_state_handler(DEVICE(n),
                                                    nvme_vm_change_state, n);
    return true;
}

void nvme_migration_cleanup(NvmeCtrl *n)
{
    if (n->vm_change_state) {
        qemu_del_vm_change_state_handler(n->vm_change_state);
        n->vm_change_state = NULL;
    }
    migrate_del_blocker(&n->migration_blocker);
    if (n->saved) {
        nvme_saved_clear(n->saved);
        g_free(n->saved);
        n->saved = NULL;
    }
}

bool nvme_ns_migration_init(NvmeNamespace *ns, Error **errp)
{
    return !ns->params.zoned ||
           nvme_block_migration(&ns->migration_blocker, DEVICE(ns), "zoned",
                                errp);
}

void nvme_ns_migration_cleanup(NvmeNamespace *ns)
{
    migrate_del_blocker(&ns->migration_blocker);
}

static const VMStateDescription vmstate_nvme_cq = {
    .name = "nvme/cq",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT16(cqid, NvmeCQueue),
        VMSTATE_UINT8(phase, NvmeCQueue),
        VMSTATE_UINT16(irq_enabled, NvmeCQueue),
        VMSTATE_UINT32(vector, NvmeCQueue),
        VMSTATE_UINT32(head, NvmeCQueue),
        VMSTATE_UINT32(tail, NvmeCQueue),
        VMSTATE_UINT32(size, NvmeCQueue),
        VMSTATE_UINT64(dma_addr, NvmeCQueue),
        VMSTATE_UINT64(db_addr, NvmeCQueue),
        VMSTATE_UINT64(ei_addr, NvmeCQueue),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_nvme_sq = {
    .name = "nvme/sq",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT16(sqid, NvmeSQueue),
        VMSTATE_UINT16(cqid, NvmeSQueue),
        VMSTATE_UINT32(head, NvmeSQueue),
        VMSTATE_UINT32(tail, NvmeSQueue),
        VMSTATE_UINT32(size, NvmeSQueue),
        VMSTATE_UINT64(dma_addr, NvmeSQueue),
        VMSTATE_UINT64(db_addr, NvmeSQueue),
        VMSTATE_UINT64(ei_addr, NvmeSQueue),
        VMSTATE_END_OF_LIST()
    },
};

/* @cqe as the host would see it (little-endian): section 4.6 */
static const VMStateDescription vmstate_nvme_request = {
    .name = "nvme/request",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_BUFFER_UNSAFE(cqe, NvmeRequest, 0, sizeof(NvmeCqe)),
        VMSTATE_UINT16(status, NvmeRequest),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_nvme_event = {
    .name = "nvme/event",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(result.event_type, NvmeAsyncEvent),
        VMSTATE_UINT8(result.event_info, NvmeAsyncEvent),
        VMSTATE_UINT8(result.log_page, NvmeAsyncEvent),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_nvme_namespace = {
    .name = "nvme/namespace",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(nsid, NvmeSavedNamespace),
        VMSTATE_UINT64(nsze, NvmeSavedNamespace),
        VMSTATE_BOOL(attached, NvmeSavedNamespace),
        VMSTATE_BOOL(changed, NvmeSavedNamespace),
        VMSTATE_BOOL(write_cache, NvmeSavedNamespace),
        VMSTATE_UINT8(flbas, NvmeSavedNamespace),
        VMSTATE_UINT8(dps, NvmeSavedNamespace),
        VMSTATE_UINT32(err_rec, NvmeSavedNamespace),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_nvme_saved = {
    .name = "nvme/saved",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(cap, NvmeSaved),
        VMSTATE_UINT32(vs, NvmeSaved),
        VMSTATE_INT32(ncqs, NvmeSaved),
        VMSTATE_INT32(nsqs, NvmeSaved),
        VMSTATE_INT32(ncompletions, NvmeSaved),
        VMSTATE_INT32(naers, NvmeSaved),
        VMSTATE_INT32(nevents, NvmeSaved),
        VMSTATE_INT32(nnamespaces, NvmeSaved),
        VMSTATE_VALIDATE("the counts are possible", nvme_counts_are_valid),
        VMSTATE_STRUCT_VARRAY_ALLOC(cqs, NvmeSaved, ncqs, 1,
                                    vmstate_nvme_cq, NvmeCQueue),
        VMSTATE_STRUCT_VARRAY_ALLOC(sqs, NvmeSaved, nsqs, 1,
                                    vmstate_nvme_sq, NvmeSQueue),
        VMSTATE_STRUCT_VARRAY_ALLOC(completions, NvmeSaved, ncompletions, 1,
                                    vmstate_nvme_request, NvmeRequest),
        VMSTATE_STRUCT_VARRAY_ALLOC(aers, NvmeSaved, naers, 1,
                                    vmstate_nvme_request, NvmeRequest),
        VMSTATE_STRUCT_VARRAY_ALLOC(events, NvmeSaved, nevents, 1,
                                    vmstate_nvme_event, NvmeAsyncEvent),
        VMSTATE_STRUCT_VARRAY_ALLOC(namespaces, NvmeSaved, nnamespaces, 1,
                                    vmstate_nvme_namespace,
                                    NvmeSavedNamespace),
        VMSTATE_END_OF_LIST()
    },
};

/* A register in NvmeBar is as the host sees it: little-endian */
#define NVME_REGISTER(reg) \
    VMSTATE_BUFFER_UNSAFE(bar.reg, NvmeCtrl, 0, sizeof(((NvmeBar *)0)->reg))

const VMStateDescription nvme_vmstate = {
    .name = "nvme",
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_save = nvme_pre_save,
    .post_save = nvme_post_save,
    .pre_load = nvme_pre_load,
    .post_load = nvme_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, NvmeCtrl),
        VMSTATE_MSIX(parent_obj, NvmeCtrl),
        /* section 3.1 */
        NVME_REGISTER(intms),
        NVME_REGISTER(intmc),
        NVME_REGISTER(cc),
        NVME_REGISTER(csts),
        NVME_REGISTER(nssr),
        NVME_REGISTER(aqa),
        NVME_REGISTER(asq),
        NVME_REGISTER(acq),
        VMSTATE_BOOL(qs_created, NvmeCtrl),
        VMSTATE_UINT32(irq_status, NvmeCtrl),
        VMSTATE_INT32(cq_pending, NvmeCtrl),
        VMSTATE_UINT64(host_timestamp, NvmeCtrl),
        VMSTATE_UINT64(timestamp_set_qemu_clock_ms, NvmeCtrl),
        VMSTATE_UINT64(starttime_ms, NvmeCtrl),
        VMSTATE_UINT16(temperature, NvmeCtrl),
        VMSTATE_UINT8(smart_critical_warning, NvmeCtrl),
        VMSTATE_UINT64(dbbuf_dbs, NvmeCtrl),
        VMSTATE_UINT64(dbbuf_eis, NvmeCtrl),
        VMSTATE_BOOL(dbbuf_enabled, NvmeCtrl),
        VMSTATE_UINT8(aer_mask, NvmeCtrl),
        /* section 5.21 */
        VMSTATE_UINT16(features.temp_thresh_hi, NvmeCtrl),
        VMSTATE_UINT16(features.temp_thresh_low, NvmeCtrl),
        VMSTATE_UINT32(features.async_config, NvmeCtrl),
        VMSTATE_BUFFER_UNSAFE(features.hbs, NvmeCtrl, 0,
                              sizeof(NvmeHostBehaviorSupport)),
        VMSTATE_UINT32(dn, NvmeCtrl),
        VMSTATE_UINT32(atomic.atomic_max_write_size, NvmeCtrl),
        VMSTATE_BOOL(atomic.atomic_writes, NvmeCtrl),
        VMSTATE_STRUCT_POINTER(saved, NvmeCtrl, vmstate_nvme_saved, NvmeSaved),
        VMSTATE_END_OF_LIST()
    },
};
