/* Which GPUs there are, and what does not change about them. */
#include "state.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    struct machine m;
    nvmlReturn_t r = state_machine(&m);
    if (r) return r;
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    *count = m.count;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetCount(unsigned int *count) { return nvmlDeviceGetCount_v2(count); }

/* found looks for a handle; before nvmlInit that is the answer, whatever else
 * is wrong with the call. */
static nvmlReturn_t found(int (*matches)(const struct device *, const void *), const void *wanted, nvmlDevice_t *handle) {
    struct machine m;
    nvmlReturn_t r = state_machine(&m);
    if (r) return r;
    if (!wanted || !handle) return NVML_ERROR_INVALID_ARGUMENT;
    return state_find(matches, wanted, handle);
}

static int has_index(const struct device *d, const void *wanted) { return d->index == *(const unsigned int *)wanted; }
static int has_uuid(const struct device *d, const void *wanted) { return !strcmp(d->uuid, wanted); }

struct pci_address { unsigned int domain, bus, device, function; };

static int has_address(const struct device *d, const void *wanted) {
    const struct pci_address *a = wanted;
    return a->domain == 0 && a->bus == d->bus && a->device == 0 && a->function == 0;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *handle) {
    nvmlReturn_t r = found(has_index, &index, handle);
    return r == NVML_ERROR_NOT_FOUND ? NVML_ERROR_INVALID_ARGUMENT : r;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *handle) {
    return nvmlDeviceGetHandleByIndex_v2(index, handle);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *handle) { return found(has_uuid, uuid, handle); }

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *id, nvmlDevice_t *handle) {
    struct pci_address a = {0, 0, 0, 0};
    char more;
    /* The domain and the function may be left out. */
    int ok = id && (sscanf(id, "%x:%x:%x.%x%c", &a.domain, &a.bus, &a.device, &a.function, &more) == 4 ||
                    (a.function = 0, sscanf(id, "%x:%x:%x%c", &a.domain, &a.bus, &a.device, &more) == 3) ||
                    (a.domain = 0, sscanf(id, "%x:%x.%x%c", &a.bus, &a.device, &a.function, &more) == 3));
    return found(has_address, ok ? &a : NULL, handle);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *id, nvmlDevice_t *handle) {
    return nvmlDeviceGetHandleByPciBusId_v2(id, handle);
}

EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    return r ? r : copy_text(uuid, length, d.uuid);
}

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    return r ? r : copy_text(name, length, d.name);
}

EXPORT nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned int length) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    if (r) return r;
    return d.serial[0] ? copy_text(serial, length, d.serial) : NVML_ERROR_NOT_SUPPORTED;
}

/* give stores one field of the GPU behind the handle. */
#define GIVE(handle, pointer, field)                   \
    do {                                               \
        struct device d;                               \
        nvmlReturn_t r = state_device((handle), &d);   \
        if (r) return r;                               \
        if (!(pointer)) return NVML_ERROR_INVALID_ARGUMENT; \
        *(pointer) = (field);                          \
        return NVML_SUCCESS;                           \
    } while (0)

EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) { GIVE(device, index, d.index); }
EXPORT nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor) { GIVE(device, minor, d.index); }
EXPORT nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, nvmlBrandType_t *brand) { GIVE(device, brand, (nvmlBrandType_t)d.brand); }
EXPORT nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, nvmlDeviceArchitecture_t *a) { GIVE(device, a, d.architecture); }

EXPORT nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    if (r) return r;
    if (!major || !minor) return NVML_ERROR_INVALID_ARGUMENT;
    *major = (int)d.cc_major;
    *minor = (int)d.cc_minor;
    return NVML_SUCCESS;
}

static nvmlReturn_t pci_info(nvmlDevice_t device, nvmlPciInfo_t *pci, size_t size) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    if (r) return r;
    if (!pci) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlPciInfo_t all;
    memset(&all, 0, sizeof all);
    snprintf(all.busIdLegacy, sizeof all.busIdLegacy, "%04X:%02X:%02X.0", 0, d.bus, 0);
    snprintf(all.busId, sizeof all.busId, "%08X:%02X:%02X.0", 0, d.bus, 0);
    all.bus = d.bus;
    all.pciDeviceId = d.pci_device;
    all.pciSubSystemId = d.pci_subsystem;
    memcpy(pci, &all, size);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) { return pci_info(device, pci, sizeof *pci); }

/* The structs of the older versions end before busId; their callers have no
 * room for it. */
EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    return pci_info(device, pci, offsetof(nvmlPciInfo_t, busId));
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci) { return nvmlDeviceGetPciInfo_v2(device, pci); }

EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    if (r) return r;
    if (!current || !pending) return NVML_ERROR_INVALID_ARGUMENT;
    return NVML_ERROR_NOT_SUPPORTED; /* no MIG devices are modelled */
}

EXPORT nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is_mig) { GIVE(device, is_mig, 0); }
