/* MIG devices that exist already: each is one compute instance of a GPU
 * instance. Making and destroying them is not modelled. */
#include "mig.h"

#include <stddef.h>
#include <string.h>

nvmlReturn_t model_nvmlDeviceGetMigMode(const struct gpu *g, unsigned int *current, unsigned int *pending) {
    NEED(current && pending);
    SUPPORT(g->mig_max);
    *current = *pending = (unsigned int)g->mig_mode;
    return NVML_SUCCESS;
}

GETTER(nvmlDeviceGetMaxMigDeviceCount, unsigned int, 1, g->mig_mode ? g->mig_max : 0)

nvmlReturn_t model_nvmlDeviceIsMigDeviceHandle(const struct device *d, unsigned int *is) {
    NEED(is);
    *is = d->mig != NULL;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetMigDeviceHandleByIndex(const struct gpu *g, unsigned int index, nvmlDevice_t *handle) {
    NEED(handle);
    SUPPORT(g->mig_max);
    if (index >= g->mig_count) return NVML_ERROR_NOT_FOUND;
    handle->handle = handle_for(g->migs[index].uuid);
    return handle->handle ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

/* The functions about a MIG device take no whole GPU. */
#define MIG(d) NEED((d)->mig)

nvmlReturn_t model_nvmlDeviceGetDeviceHandleFromMigDeviceHandle(const struct device *d, nvmlDevice_t *handle) {
    NEED(handle);
    MIG(d);
    handle->handle = handle_for(d->gpu->uuid);
    return handle->handle ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

nvmlReturn_t model_nvmlDeviceGetGpuInstanceId(const struct device *d, unsigned int *id) {
    NEED(id);
    MIG(d);
    *id = d->mig->gi;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetComputeInstanceId(const struct device *d, unsigned int *id) {
    NEED(id);
    MIG(d);
    *id = d->mig->ci;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetAttributes_v2(const struct device *d, nvmlDeviceAttributes_t *attributes) {
    NEED(attributes);
    SUPPORT(d->mig);
    memset(attributes, 0, sizeof *attributes);
    attributes->multiprocessorCount = d->mig->sms;
    struct engines e = profile_engines(d->gpu, profile_of(d->mig));
    attributes->sharedCopyEngineCount = e.copy;
    attributes->sharedDecoderCount = e.decoders;
    attributes->sharedJpegCount = e.jpeg;
    attributes->sharedOfaCount = e.ofa;
    attributes->gpuInstanceSliceCount = d->mig->slices;
    attributes->computeInstanceSliceCount = d->mig->compute_slices;
    attributes->memorySizeMB = d->mig->memory >> 20;
    return NVML_SUCCESS;
}

/* The struct of the first version ends before the slices; its callers have no
 * room for more. */
nvmlReturn_t model_nvmlDeviceGetAttributes(const struct device *d, nvmlDeviceAttributes_t *attributes) {
    nvmlDeviceAttributes_t all;
    NEED(attributes);
    nvmlReturn_t r = model_nvmlDeviceGetAttributes_v2(d, &all);
    if (r == NVML_SUCCESS) memcpy(attributes, &all, offsetof(nvmlDeviceAttributes_t, gpuInstanceSliceCount));
    return r;
}
