/* What tells a sick GPU from a healthy one. The GPUs are healthy. */
#include "state.h"

enum { AMPERE = NVML_DEVICE_ARCH_AMPERE };

/* ecc_device reads a GPU and says so if its model has no ECC memory. */
static nvmlReturn_t ecc_device(nvmlDevice_t device, struct device *d) {
    nvmlReturn_t r = state_device(device, d);
    if (r) return r;
    return d->ecc ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter,
                                                unsigned long long *count) {
    struct device d;
    nvmlReturn_t r = ecc_device(device, &d);
    if (r) return r;
    if (!count || type >= NVML_MEMORY_ERROR_TYPE_COUNT || counter >= NVML_ECC_COUNTER_TYPE_COUNT) return NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    return NVML_SUCCESS;
}

/* Since Ampere, rows are remapped; before, pages were retired. */
EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrected, unsigned int *uncorrected,
                                              unsigned int *pending, unsigned int *failed) {
    struct device d;
    nvmlReturn_t r = ecc_device(device, &d);
    if (r) return r;
    if (!corrected || !uncorrected || !pending || !failed) return NVML_ERROR_INVALID_ARGUMENT;
    if (d.architecture < AMPERE) return NVML_ERROR_NOT_SUPPORTED;
    *corrected = *uncorrected = *pending = *failed = 0;
    return NVML_SUCCESS;
}

static nvmlReturn_t retired_pages(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int *count) {
    struct device d;
    nvmlReturn_t r = ecc_device(device, &d);
    if (r) return r;
    if (!count || cause >= NVML_PAGE_RETIREMENT_CAUSE_COUNT) return NVML_ERROR_INVALID_ARGUMENT;
    if (d.architecture >= AMPERE) return NVML_ERROR_NOT_SUPPORTED;
    *count = 0;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int *count,
                                              unsigned long long *addresses) {
    (void)addresses;
    return retired_pages(device, cause, count);
}

EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int *count,
                                                 unsigned long long *addresses, unsigned long long *timestamps) {
    (void)addresses;
    (void)timestamps;
    return retired_pages(device, cause, count);
}
