/* What tells a sick GPU from a healthy one: ECC errors, remapped rows, retired
 * pages. */
#include "state.h"

#include <string.h>

GETTER(nvmlDeviceGetDefaultEccMode, nvmlEnableState_t, g->ecc, NVML_FEATURE_ENABLED)

nvmlReturn_t model_nvmlDeviceGetEccMode(const struct gpu *g, nvmlEnableState_t *current, nvmlEnableState_t *pending) {
    NEED(current && pending);
    SUPPORT(g->ecc);
    *current = *pending = NVML_FEATURE_ENABLED;
    return NVML_SUCCESS;
}

/* errors counts the errors of one kind, in the DRAM and in the SRAM of the GPU. */
static void errors(const struct gpu *g, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter, unsigned long long *dram,
                   unsigned long long *sram) {
    int fatal = type == NVML_MEMORY_ERROR_TYPE_UNCORRECTED;
    if (counter == NVML_VOLATILE_ECC) {
        *dram = fatal ? g->ecc_dram_uncorrected_volatile : g->ecc_dram_corrected_volatile;
        *sram = fatal ? g->ecc_sram_uncorrected_volatile : g->ecc_sram_corrected_volatile;
    } else {
        *dram = fatal ? g->ecc_dram_uncorrected_aggregate : g->ecc_dram_corrected_aggregate;
        *sram = fatal ? g->ecc_sram_uncorrected_aggregate : g->ecc_sram_corrected_aggregate;
    }
}

nvmlReturn_t model_nvmlDeviceGetTotalEccErrors(const struct gpu *g, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter,
                                               unsigned long long *count) {
    unsigned long long dram, sram;
    NEED(count && type < NVML_MEMORY_ERROR_TYPE_COUNT && counter < NVML_ECC_COUNTER_TYPE_COUNT);
    SUPPORT(g->ecc);
    errors(g, type, counter, &dram, &sram);
    *count = sum(dram, sram);
    return NVML_SUCCESS;
}

/* The SRAM of the model is its L2 cache. */
nvmlReturn_t model_nvmlDeviceGetDetailedEccErrors(const struct gpu *g, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter,
                                                  nvmlEccErrorCounts_t *counts) {
    NEED(counts && type < NVML_MEMORY_ERROR_TYPE_COUNT && counter < NVML_ECC_COUNTER_TYPE_COUNT);
    SUPPORT(g->ecc);
    memset(counts, 0, sizeof *counts);
    errors(g, type, counter, &counts->deviceMemory, &counts->l2Cache);
    return NVML_SUCCESS;
}

/* The header: with MIG, a GPU does not tell its volatile errors, and a MIG device
 * those that cannot be corrected and are not of the DRAM, of which it has none. */
nvmlReturn_t model_nvmlDeviceGetMemoryErrorCounter(const struct device *d, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter,
                                                   nvmlMemoryLocation_t location, unsigned long long *count) {
    const struct gpu *g = d->gpu;
    unsigned long long dram, sram;
    NEED(count && type < NVML_MEMORY_ERROR_TYPE_COUNT && counter < NVML_ECC_COUNTER_TYPE_COUNT && location < NVML_MEMORY_LOCATION_COUNT);
    SUPPORT(g->ecc);
    if (d->mig) {
        SUPPORT(type == NVML_MEMORY_ERROR_TYPE_UNCORRECTED && counter == NVML_VOLATILE_ECC && location != NVML_MEMORY_LOCATION_DRAM);
        *count = 0;
        return NVML_SUCCESS;
    }
    SUPPORT(!(g->mig_mode && counter == NVML_VOLATILE_ECC));
    errors(g, type, counter, &dram, &sram);
    /* Since Ampere they are told of the DRAM and the SRAM as a whole. */
    SUPPORT(g->architecture < NVML_DEVICE_ARCH_AMPERE || location == NVML_MEMORY_LOCATION_DRAM || location == NVML_MEMORY_LOCATION_SRAM);
    switch (location) {
    case NVML_MEMORY_LOCATION_DRAM: *count = dram; break;
    case NVML_MEMORY_LOCATION_SRAM:
    case NVML_MEMORY_LOCATION_L2_CACHE: *count = sram; break;
    default: *count = 0;
    }
    return NVML_SUCCESS;
}

/* Nothing of a fake GPU waits for a repair. */
nvmlReturn_t model_nvmlDeviceGetRepairStatus(const struct gpu *g, nvmlRepairStatus_t *status) {
    NEED(status);
    VERSION(status, nvmlRepairStatus_v1);
    SUPPORT(since_hopper(g));
    status->bChannelRepairPending = status->bTpcRepairPending = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetUnrepairableMemoryFlag_v1(const struct gpu *g, nvmlUnrepairableMemoryStatus_v1_t *status) {
    NEED(status);
    SUPPORT(since_hopper(g));
    status->bUnrepairableMemory = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetSramEccErrorStatus(const struct gpu *g, nvmlEccSramErrorStatus_t *status) {
    NEED(status);
    VERSION(status, nvmlEccSramErrorStatus_v1);
    SUPPORT(g->ecc && g->architecture >= NVML_DEVICE_ARCH_AMPERE);
    memset(status, 0, sizeof *status);
    status->version = nvmlEccSramErrorStatus_v1;
    status->volatileCor = g->ecc_sram_corrected_volatile;
    status->volatileUncSecDed = g->ecc_sram_uncorrected_volatile;
    status->aggregateCor = g->ecc_sram_corrected_aggregate;
    status->aggregateUncSecDed = status->aggregateUncBucketL2 = g->ecc_sram_uncorrected_aggregate;
    return NVML_SUCCESS;
}

/* Since Ampere, rows are remapped; before, pages were retired. */
static int remaps(const struct gpu *g) {
    return g->ecc && g->architecture >= NVML_DEVICE_ARCH_AMPERE && !g->mig_mode; /* the header: not on GPUs with MIG */
}
static int retires(const struct gpu *g) { return g->ecc && g->architecture < NVML_DEVICE_ARCH_AMPERE; }

nvmlReturn_t model_nvmlDeviceGetRemappedRows(const struct gpu *g, unsigned int *corrected, unsigned int *uncorrected, unsigned int *pending,
                                             unsigned int *failed) {
    NEED(corrected && uncorrected && pending && failed);
    SUPPORT(remaps(g));
    *corrected = (unsigned int)g->remap_corrected;
    *uncorrected = (unsigned int)g->remap_uncorrected;
    *pending = (unsigned int)g->remap_pending;
    *failed = (unsigned int)g->remap_failed;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetRemappedRows_v2(const struct gpu *g, nvmlRemappedRowsInfo_v2_t *info) {
    NEED(info);
    SUPPORT(remaps(g));
    memset(info, 0, sizeof *info);
    info->corrActiveRemaps = (unsigned int)g->remap_corrected;
    info->uncActiveRemaps = (unsigned int)g->remap_uncorrected;
    info->bPending = (unsigned int)g->remap_pending;
    info->bFailureOccurred = (unsigned int)g->remap_failed;
    return NVML_SUCCESS;
}

/* banks_left tells how many banks have all of their spare rows, and how many
 * have none: each remapped row is of another bank, a failed remap has used one
 * up. */
static unsigned int banks_left(const struct gpu *g) {
    unsigned long long used = g->remap_corrected + g->remap_uncorrected;
    return used + g->remap_failed > g->remap_banks ? 0 : (unsigned int)(g->remap_banks - used - g->remap_failed);
}

nvmlReturn_t model_nvmlDeviceGetRowRemapperHistogram(const struct gpu *g, nvmlRowRemapperHistogramValues_t *values) {
    NEED(values);
    SUPPORT(remaps(g));
    memset(values, 0, sizeof *values);
    values->max = banks_left(g);
    values->none = (unsigned int)g->remap_failed;
    values->high = (unsigned int)(g->remap_banks > values->max + values->none ? g->remap_banks - values->max - values->none : 0);
    return NVML_SUCCESS;
}

static nvmlReturn_t retired_pages(const struct gpu *g, nvmlPageRetirementCause_t cause, unsigned int *count, unsigned long long *addresses,
                                  unsigned long long *timestamps) {
    NEED(count && cause < NVML_PAGE_RETIREMENT_CAUSE_COUNT);
    SUPPORT(retires(g));
    unsigned int have = (unsigned int)(cause == NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR ? g->retired_double : g->retired_single);
    nvmlReturn_t r = give_count(count, addresses, have);
    for (unsigned int i = 0; r == NVML_SUCCESS && i < have; i++) {
        addresses[i] = ((unsigned long long)cause << 32) + i; /* any page will do */
        if (timestamps) timestamps[i] = 0;                    /* not known */
    }
    return r;
}

nvmlReturn_t model_nvmlDeviceGetRetiredPages(const struct gpu *g, nvmlPageRetirementCause_t cause, unsigned int *count,
                                             unsigned long long *addresses) {
    return retired_pages(g, cause, count, addresses, NULL);
}

nvmlReturn_t model_nvmlDeviceGetRetiredPages_v2(const struct gpu *g, nvmlPageRetirementCause_t cause, unsigned int *count,
                                                unsigned long long *addresses, unsigned long long *timestamps) {
    return retired_pages(g, cause, count, addresses, timestamps);
}

GETTER(nvmlDeviceGetRetiredPagesPendingStatus, nvmlEnableState_t, retires(g), g->retired_pending)
