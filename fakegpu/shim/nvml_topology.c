/* How near the GPUs are to each other, to memory and to processors. */
#include "state.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* between says what a way from one GPU to the other must cross. */
static nvmlGpuTopologyLevel_t between(const struct gpu *a, const struct gpu *b) {
    if (a == b) return NVML_TOPOLOGY_INTERNAL;
    if (a->pcie_switch && a->pcie_switch == b->pcie_switch) return NVML_TOPOLOGY_SINGLE;
    return a->numa == b->numa ? NVML_TOPOLOGY_NODE : NVML_TOPOLOGY_SYSTEM;
}

nvmlReturn_t model_nvmlDeviceGetTopologyCommonAncestor(const struct gpu *g, nvmlDevice_t other, nvmlGpuTopologyLevel_t *level) {
    struct device d;
    NEED(level);
    nvmlReturn_t r = handle_device(other.handle, &d);
    if (r) return r;
    NEED(!d.mig);
    *level = between(g, d.gpu);
    return NVML_SUCCESS;
}

/* nearest lists the GPUs that a condition holds for. The header: with a count
 * of zero the number is asked for, and that succeeds. */
static nvmlReturn_t nearest(const struct gpu *from, nvmlGpuTopologyLevel_t level, unsigned int *count, nvmlDevice_t *list) {
    const struct machine *m = state_machine();
    NEED(count && (list || *count == 0));
    unsigned int room = *count, have = 0;
    for (unsigned int i = 0; i < m->gpu_count; i++) {
        const struct gpu *g = &m->gpus[i];
        if (from && (g == from || between(from, g) != level)) continue;
        if (have < room) list[have].handle = handle_for(g->uuid);
        have++;
    }
    *count = room && room < have ? room : have;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetTopologyNearestGpus(const struct gpu *g, nvmlGpuTopologyLevel_t level, unsigned int *count,
                                                    nvmlDevice_t *list) {
    return nearest(g, level, count, list);
}

/* Every processor can reach every GPU. */
nvmlReturn_t model_nvmlSystemGetTopologyGpuSet(unsigned int cpu, unsigned int *count, nvmlDevice_t *list) {
    NEED(count && (list || *count == 0));
    if (cpu < (unsigned long)sysconf(_SC_NPROCESSORS_CONF)) return nearest(NULL, 0, count, list);
    *count = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetP2PStatus(const struct gpu *g, nvmlDevice_t other, nvmlGpuP2PCapsIndex_t index, nvmlGpuP2PStatus_t *status) {
    struct device d;
    NEED(status && index <= NVML_P2P_CAPS_INDEX_PCI);
    nvmlReturn_t r = handle_device(other.handle, &d);
    if (r) return r;
    NEED(d.gpu != g && !d.mig);
    int linked = g->nvlinks && d.gpu->nvlinks;
    int near = between(g, d.gpu) < NVML_TOPOLOGY_SYSTEM;
    switch (index) {
    case NVML_P2P_CAPS_INDEX_NVLINK:
    case NVML_P2P_CAPS_INDEX_ATOMICS: *status = linked ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_NOT_SUPPORTED; break;
    default: *status = linked || near ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_CHIPSET_NOT_SUPPORTED;
    }
    return NVML_SUCCESS;
}

static nvmlReturn_t set_bits(unsigned long *set, unsigned int words, unsigned int from, unsigned int to) {
    enum { BITS = CHAR_BIT * sizeof *set };
    NEED(set && words);
    memset(set, 0, words * sizeof *set);
    for (unsigned int i = from; i < to && i / BITS < words; i++) set[i / BITS] |= 1UL << i % BITS;
    return NVML_SUCCESS;
}

/* The processors are those of the real machine, and near to all GPUs. */
nvmlReturn_t model_nvmlDeviceGetCpuAffinity(const struct gpu *g, unsigned int words, unsigned long *set) {
    return set_bits(set, words, 0, (unsigned int)sysconf(_SC_NPROCESSORS_CONF));
}

nvmlReturn_t model_nvmlDeviceGetCpuAffinityWithinScope(const struct gpu *g, unsigned int words, unsigned long *set, nvmlAffinityScope_t scope) {
    NEED(scope == NVML_AFFINITY_SCOPE_NODE || scope == NVML_AFFINITY_SCOPE_SOCKET);
    return model_nvmlDeviceGetCpuAffinity(g, words, set);
}

nvmlReturn_t model_nvmlDeviceGetMemoryAffinity(const struct gpu *g, unsigned int words, unsigned long *set, nvmlAffinityScope_t scope) {
    NEED(scope == NVML_AFFINITY_SCOPE_NODE || scope == NVML_AFFINITY_SCOPE_SOCKET);
    return set_bits(set, words, (unsigned int)g->numa, (unsigned int)g->numa + 1);
}

/* The header: only where the memory of GPUs is a NUMA node, which is so with ATS. */
GETTER(nvmlDeviceGetNumaNodeId, unsigned int, g->addressing == NVML_DEVICE_ADDRESSING_MODE_ATS + 1, g->numa)

/* All NVLinks lead to a switch. */

#define LINK(g, link) do { NEED((link) < NVML_NVLINK_MAX_LINKS); SUPPORT((link) < (g)->nvlinks); } while (0)

nvmlReturn_t model_nvmlDeviceGetNvLinkState(const struct gpu *g, unsigned int link, nvmlEnableState_t *active) {
    NEED(active);
    LINK(g, link);
    *active = NVML_FEATURE_ENABLED;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetNvLinkVersion(const struct gpu *g, unsigned int link, unsigned int *version) {
    NEED(version);
    LINK(g, link);
    *version = (unsigned int)g->nvlink_version;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetNvLinkCapability(const struct gpu *g, unsigned int link, nvmlNvLinkCapability_t capability,
                                                 unsigned int *result) {
    NEED(result);
    LINK(g, link);
    NEED(capability < NVML_NVLINK_CAP_COUNT);
    *result = capability == NVML_NVLINK_CAP_P2P_SUPPORTED || capability == NVML_NVLINK_CAP_P2P_ATOMICS || capability == NVML_NVLINK_CAP_VALID;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetNvLinkRemoteDeviceType(const struct gpu *g, unsigned int link, nvmlIntNvLinkDeviceType_t *type) {
    NEED(type);
    LINK(g, link);
    *type = NVML_NVLINK_DEVICE_TYPE_SWITCH;
    return NVML_SUCCESS;
}

/* The switch has an address of its own, on a domain where no GPU is. */
nvmlReturn_t model_nvmlDeviceGetNvLinkRemotePciInfo_v2(const struct gpu *g, unsigned int link, nvmlPciInfo_t *pci) {
    NEED(pci);
    LINK(g, link);
    memset(pci, 0, sizeof *pci);
    pci->domain = 1;
    pci->bus = 1;
    pci->pciDeviceId = 0x22a310de; /* PCI ID repository: GH100 [H100 NVSwitch] */
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "0001:01:00.0");
    snprintf(pci->busId, sizeof pci->busId, "00000001:01:00.0");
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetNvLinkErrorCounter(const struct gpu *g, unsigned int link, nvmlNvLinkErrorCounter_t counter,
                                                   unsigned long long *value) {
    NEED(value);
    LINK(g, link);
    NEED(counter < NVML_NVLINK_ERROR_COUNT);
    *value = 0;
    return NVML_SUCCESS;
}
