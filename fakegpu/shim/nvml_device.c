/* Which GPUs there are, and what does not change about them. */
#include "mig.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

nvmlReturn_t model_nvmlDeviceGetCount_v2(unsigned int *count) {
    NEED(count);
    *count = state_machine()->gpu_count;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetCount(unsigned int *count) { return model_nvmlDeviceGetCount_v2(count); }

/* A handle is not given for a GPU that is lost. */
static nvmlReturn_t give_handle(const char *uuid, nvmlDevice_t *handle) {
    struct device d;
    handle->handle = handle_for(uuid);
    return handle->handle ? handle_device(handle->handle, &d) : NVML_ERROR_MEMORY;
}

/* What is not found may be a GPU that is lost. */
static nvmlReturn_t not_found(void) {
    const struct machine *m = state_machine();
    for (unsigned int i = 0; i < m->gpu_count; i++)
        if (m->gpus[i].lost) return NVML_ERROR_GPU_IS_LOST;
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t model_nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *handle) {
    NEED(handle && index < state_machine()->gpu_count);
    return give_handle(state_machine()->gpus[index].uuid, handle);
}

nvmlReturn_t model_nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *handle) {
    return model_nvmlDeviceGetHandleByIndex_v2(index, handle);
}

nvmlReturn_t model_nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *handle) {
    NEED(uuid && handle);
    const struct machine *m = state_machine();
    for (unsigned int i = 0; i < m->gpu_count; i++) {
        if (!strcmp(m->gpus[i].uuid, uuid)) return give_handle(uuid, handle);
        for (unsigned int j = 0; j < m->gpus[i].mig_count; j++)
            if (!strcmp(m->gpus[i].migs[j].uuid, uuid)) return give_handle(uuid, handle);
    }
    return not_found();
}

nvmlReturn_t model_nvmlDeviceGetHandleByUUIDV(const nvmlUUID_t *uuid, nvmlDevice_t *handle) {
    NEED(uuid && handle);
    VERSION(uuid, nvmlUUID_v1);
    char text[TEXT] = "";
    const unsigned char *b = uuid->value.bytes;
    switch (uuid->type) {
    case NVML_UUID_TYPE_ASCII:
        memcpy(text, uuid->value.str, sizeof uuid->value.str);
        text[sizeof uuid->value.str] = 0;
        break;
    case NVML_UUID_TYPE_BINARY:
        snprintf(text, sizeof text, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
                 b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
        break;
    default:
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    return model_nvmlDeviceGetHandleByUUID(text, handle);
}

nvmlReturn_t model_nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *handle) {
    NEED(serial && *serial && handle);
    const struct machine *m = state_machine();
    for (unsigned int i = 0; i < m->gpu_count; i++)
        if (!strcmp(m->gpus[i].serial, serial)) return give_handle(m->gpus[i].uuid, handle);
    return not_found();
}

nvmlReturn_t model_nvmlDeviceGetHandleByPciBusId_v2(const char *id, nvmlDevice_t *handle) {
    unsigned int domain = 0, bus, device, function = 0;
    char more;
    /* The domain and the function may be left out. */
    NEED(id && handle);
    NEED(sscanf(id, "%x:%x:%x.%x%c", &domain, &bus, &device, &function, &more) == 4 ||
         (function = 0, sscanf(id, "%x:%x:%x%c", &domain, &bus, &device, &more) == 3) ||
         (domain = 0, sscanf(id, "%x:%x.%x%c", &bus, &device, &function, &more) == 3));
    const struct machine *m = state_machine();
    for (unsigned int i = 0; i < m->gpu_count; i++)
        if (domain == 0 && bus == m->gpus[i].bus && device == 0 && function == 0) return give_handle(m->gpus[i].uuid, handle);
    return not_found();
}

nvmlReturn_t model_nvmlDeviceGetHandleByPciBusId(const char *id, nvmlDevice_t *handle) {
    return model_nvmlDeviceGetHandleByPciBusId_v2(id, handle);
}

nvmlReturn_t model_nvmlDeviceGetUUID(const struct device *d, char *uuid, unsigned int length) {
    return give_text(uuid, length, d->mig ? d->mig->uuid : d->gpu->uuid);
}

/* A MIG device is named after its GPU and its share of it. */
nvmlReturn_t model_nvmlDeviceGetName(const struct device *d, char *name, unsigned int length) {
    if (!d->mig) return give_text(name, length, d->gpu->name);
    char text[2 * TEXT];
    mig_name(d, text, sizeof text);
    return give_text(name, length, text);
}

/* optional gives a text that not all models have. */
static nvmlReturn_t optional(char *to, unsigned int length, const char *from) {
    NEED(to);
    SUPPORT(*from);
    return give_text(to, length, from);
}

nvmlReturn_t model_nvmlDeviceGetSerial(const struct gpu *g, char *serial, unsigned int length) {
    return optional(serial, length, g->serial);
}

nvmlReturn_t model_nvmlDeviceGetVbiosVersion(const struct gpu *g, char *version, unsigned int length) {
    return optional(version, length, g->vbios);
}

nvmlReturn_t model_nvmlDeviceGetBoardPartNumber(const struct gpu *g, char *number, unsigned int length) {
    return optional(number, length, g->part_number);
}

/* The firmware of the GSP comes with the driver, since Turing. The header asks
 * for a buffer of NVML_GSP_FIRMWARE_VERSION_BUF_SIZE. */
nvmlReturn_t model_nvmlDeviceGetGspFirmwareVersion(const struct gpu *g, char *version) {
    NEED(version);
    SUPPORT(g->architecture >= NVML_DEVICE_ARCH_TURING);
    return give_text(version, NVML_GSP_FIRMWARE_VERSION_BUF_SIZE, state_machine()->driver);
}

nvmlReturn_t model_nvmlDeviceGetGspFirmwareMode(const struct gpu *g, unsigned int *enabled, unsigned int *by_default) {
    NEED(enabled && by_default);
    SUPPORT(g->architecture >= NVML_DEVICE_ARCH_TURING);
    *enabled = *by_default = 1;
    return NVML_SUCCESS;
}

/* The index of a MIG device is its place among those of its GPU. */
nvmlReturn_t model_nvmlDeviceGetIndex(const struct device *d, unsigned int *index) {
    NEED(index);
    *index = d->mig ? (unsigned int)(d->mig - d->gpu->migs) : d->gpu->index;
    return NVML_SUCCESS;
}

GETTER(nvmlDeviceGetMinorNumber, unsigned int, 1, g->minor)
GETTER(nvmlDeviceGetBrand, nvmlBrandType_t, 1, g->brand)
GETTER(nvmlDeviceGetArchitecture, nvmlDeviceArchitecture_t, g->architecture, g->architecture)
GETTER(nvmlDeviceGetModuleId, unsigned int, 1, g->module) /* the header: 0 for a GPU that is on no baseboard */
GETTER(nvmlDeviceGetNumGpuCores, unsigned int, g->cores && !g->mig_mode, g->cores) /* the header: not on GPUs with MIG */
GETTER(nvmlDeviceGetMemoryBusWidth, unsigned int, g->bus_width, g->bus_width)
GETTER(nvmlDeviceGetBusType, nvmlBusType_t, 1, NVML_BUS_TYPE_PCIE)
GETTER(nvmlDeviceGetIrqNum, unsigned int, 1, 64 + g->minor)
GETTER(nvmlDeviceGetBoardId, unsigned int, 1, g->bus << 8)
GETTER(nvmlDeviceGetMultiGpuBoard, unsigned int, 1, 0)
GETTER(nvmlDeviceGetDisplayMode, nvmlEnableState_t, 1, NVML_FEATURE_ENABLED) /* as of real ones, where nothing is connected */
GETTER(nvmlDeviceGetDisplayActive, nvmlEnableState_t, 1, NVML_FEATURE_DISABLED)
GETTER(nvmlDeviceGetVirtualizationMode, nvmlGpuVirtualizationMode_t, 1, NVML_GPU_VIRTUALIZATION_MODE_NONE)

nvmlReturn_t model_nvmlDeviceGetCudaComputeCapability(const struct gpu *g, int *major, int *minor) {
    NEED(major && minor);
    *major = (int)g->cc_major;
    *minor = (int)g->cc_minor;
    return NVML_SUCCESS;
}

/* The number of the chip is in its UUID. */
nvmlReturn_t model_nvmlDeviceGetPdi(const struct gpu *g, nvmlPdi_t *pdi) {
    NEED(pdi);
    VERSION(pdi, nvmlPdi_v1);
    SUPPORT(since_hopper(g));
    pdi->value = 0;
    for (const char *c = strchr(g->uuid, '-'); c && *c; c++) {
        const char *digits = "0123456789abcdef", *digit = strchr(digits, *c);
        if (digit) pdi->value = pdi->value << 4 | (unsigned long long)(digit - digits);
    }
    return NVML_SUCCESS;
}

static nvmlReturn_t pci_info(const struct gpu *g, nvmlPciInfo_t *pci, size_t size) {
    NEED(pci);
    nvmlPciInfo_t all;
    memset(&all, 0, sizeof all);
    snprintf(all.busIdLegacy, sizeof all.busIdLegacy, "%04X:%02X:%02X.0", 0, (unsigned char)g->bus, 0);
    snprintf(all.busId, sizeof all.busId, "%08X:%02X:%02X.0", 0, (unsigned char)g->bus, 0);
    all.bus = (unsigned int)g->bus;
    all.pciDeviceId = (unsigned int)g->pci_device;
    all.pciSubSystemId = (unsigned int)g->pci_subsystem;
    memcpy(pci, &all, size);
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetPciInfo_v3(const struct gpu *g, nvmlPciInfo_t *pci) { return pci_info(g, pci, sizeof *pci); }

/* The structs of the older versions end before busId, the first one's before
 * the subsystem as well; their callers have no room for more. */
nvmlReturn_t model_nvmlDeviceGetPciInfo_v2(const struct gpu *g, nvmlPciInfo_t *pci) {
    return pci_info(g, pci, offsetof(nvmlPciInfo_t, busId));
}

nvmlReturn_t model_nvmlDeviceGetPciInfo(const struct gpu *g, nvmlPciInfo_t *pci) {
    return pci_info(g, pci, offsetof(nvmlPciInfo_t, pciSubSystemId));
}

nvmlReturn_t model_nvmlDeviceGetPciInfoExt(const struct gpu *g, nvmlPciInfoExt_t *pci) {
    NEED(pci);
    VERSION(pci, nvmlPciInfoExt_v1);
    memset(pci, 0, sizeof *pci);
    pci->version = nvmlPciInfoExt_v1;
    pci->bus = (unsigned int)g->bus;
    pci->pciDeviceId = (unsigned int)g->pci_device;
    pci->pciSubSystemId = (unsigned int)g->pci_subsystem;
    pci->baseClass = 3; /* a display controller */
    pci->subClass = 2;  /* 3D, which has no display connected */
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.0", 0, (unsigned char)g->bus, 0);
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceOnSameBoard(const struct gpu *g, nvmlDevice_t other, int *same) {
    struct device d;
    NEED(same);
    nvmlReturn_t r = handle_device(other.handle, &d);
    if (r) return r;
    *same = d.gpu == g; /* one GPU a board */
    return NVML_SUCCESS;
}
