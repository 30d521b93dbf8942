/* MIG devices that exist already: each is one compute instance of a GPU
 * instance. Making and destroying them is not modelled. */
#include "state.h"

#include <stdio.h>
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
    NEED(index < g->mig_max);
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
    attributes->sharedCopyEngineCount = d->mig->slices;
    attributes->gpuInstanceSliceCount = d->mig->slices;
    attributes->computeInstanceSliceCount = d->mig->compute_slices;
    attributes->memorySizeMB = d->mig->memory >> 20;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetAttributes(const struct device *d, nvmlDeviceAttributes_t *attributes) {
    return model_nvmlDeviceGetAttributes_v2(d, attributes);
}

/* The profiles of GPU instances, in the order of NVML_GPU_INSTANCE_PROFILE_*.
 * The ids are those that nvidia-smi shows for the A100 and H100 (NVIDIA's MIG
 * user guide); the memory is in eighths of the GPU's. */
static const struct { unsigned int slices, id, instances, eighths; } profiles[] = {
    {1, 19, 7, 1}, {2, 14, 3, 2}, {3, 9, 2, 4}, {4, 5, 1, 4}, {7, 0, 1, 8},
};
enum { PROFILES = sizeof profiles / sizeof *profiles };

static unsigned int profile_of(unsigned int slices) {
    unsigned int i = 0;
    while (i < PROFILES - 1 && profiles[i].slices < slices) i++;
    return i;
}

/* profile_info fills what all versions of the struct have in common. */
#define PROFILE_INFO(g, profile, info)                                                      \
    do {                                                                                    \
        SUPPORT((g)->mig_max);                                                              \
        NEED((profile) < NVML_GPU_INSTANCE_PROFILE_COUNT);                                  \
        SUPPORT((profile) < PROFILES);                                                      \
        (info)->id = profiles[profile].id;                                                  \
        (info)->sliceCount = profiles[profile].slices;                                      \
        (info)->instanceCount = profiles[profile].instances;                                \
        (info)->multiprocessorCount = (unsigned int)((g)->sms * profiles[profile].slices / (g)->mig_max); \
        (info)->copyEngineCount = profiles[profile].slices;                                 \
        (info)->memorySizeMB = ((g)->memory >> 20) * profiles[profile].eighths / 8;         \
    } while (0)

nvmlReturn_t model_nvmlDeviceGetGpuInstanceProfileInfo(const struct gpu *g, unsigned int profile, nvmlGpuInstanceProfileInfo_t *info) {
    NEED(info);
    memset(info, 0, sizeof *info);
    PROFILE_INFO(g, profile, info);
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetGpuInstanceProfileInfoV(const struct gpu *g, unsigned int profile, nvmlGpuInstanceProfileInfo_v2_t *info) {
    NEED(info);
    if (info->version == nvmlGpuInstanceProfileInfo_v3) {
        nvmlGpuInstanceProfileInfo_v3_t *v3 = (void *)info;
        memset(v3, 0, sizeof *v3);
        v3->version = nvmlGpuInstanceProfileInfo_v3;
        PROFILE_INFO(g, profile, v3);
        snprintf(v3->name, sizeof v3->name, "MIG %ug.%llugb", v3->sliceCount, (v3->memorySizeMB + 512) >> 10);
        return NVML_SUCCESS;
    }
    VERSION(info, nvmlGpuInstanceProfileInfo_v2);
    memset(info, 0, sizeof *info);
    info->version = nvmlGpuInstanceProfileInfo_v2;
    PROFILE_INFO(g, profile, info);
    snprintf(info->name, sizeof info->name, "MIG %ug.%llugb", info->sliceCount, (info->memorySizeMB + 512) >> 10);
    return NVML_SUCCESS;
}

/* The handle of an instance is that of a MIG device in it: of the first one for
 * a GPU instance, of the only one for a compute instance. */

static nvmlReturn_t instance(struct nvmlDevice_st *handle, struct device *d) {
    nvmlReturn_t r = handle_device(handle, d);
    if (r) return r;
    MIG(d);
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetGpuInstanceById(const struct gpu *g, unsigned int id, nvmlGpuInstance_t *gi) {
    NEED(gi);
    SUPPORT(g->mig_mode);
    for (unsigned int i = 0; i < g->mig_count; i++) {
        if (g->migs[i].gi != id) continue;
        gi->handle = (void *)handle_for(g->migs[i].uuid);
        return gi->handle ? NVML_SUCCESS : NVML_ERROR_MEMORY;
    }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t model_nvmlDeviceGetGpuInstances(const struct gpu *g, unsigned int profile_id, nvmlGpuInstance_t *list, unsigned int *count) {
    NEED(list && count);
    SUPPORT(g->mig_mode);
    *count = 0;
    for (unsigned int i = 0; i < g->mig_count; i++) {
        unsigned int first = 0;
        while (g->migs[first].gi != g->migs[i].gi) first++;
        if (first < i || profiles[profile_of(g->migs[i].slices)].id != profile_id) continue;
        list[(*count)++].handle = (void *)handle_for(g->migs[i].uuid);
    }
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlGpuInstanceGetInfo(nvmlGpuInstance_t gi, nvmlGpuInstanceInfo_t *info) {
    struct device d;
    NEED(info);
    nvmlReturn_t r = instance((void *)gi.handle, &d);
    if (r) return r;
    memset(info, 0, sizeof *info);
    info->device.handle = handle_for(d.gpu->uuid);
    info->id = d.mig->gi;
    info->profileId = profiles[profile_of(d.mig->slices)].id;
    info->placement.size = profiles[profile_of(d.mig->slices)].eighths;
    for (const struct mig *m = d.gpu->migs; m < d.mig; m++) info->placement.start += profiles[profile_of(m->slices)].eighths;
    return NVML_SUCCESS;
}

/* A compute instance's profile is known by its place among them. */
nvmlReturn_t model_nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t gi, unsigned int profile, unsigned int engines,
                                                                nvmlComputeInstanceProfileInfo_t *info) {
    struct device d;
    NEED(info && profile < NVML_COMPUTE_INSTANCE_PROFILE_COUNT && engines < NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_COUNT);
    nvmlReturn_t r = instance((void *)gi.handle, &d);
    if (r) return r;
    SUPPORT(profile < PROFILES && profiles[profile].slices <= d.mig->slices);
    memset(info, 0, sizeof *info);
    info->id = profile;
    info->sliceCount = profiles[profile].slices;
    info->instanceCount = d.mig->slices / profiles[profile].slices;
    info->multiprocessorCount = d.mig->sms * profiles[profile].slices / d.mig->slices;
    info->sharedCopyEngineCount = d.mig->slices;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t gi, unsigned int id, nvmlComputeInstance_t *ci) {
    struct device d;
    NEED(ci);
    nvmlReturn_t r = instance((void *)gi.handle, &d);
    if (r) return r;
    for (unsigned int i = 0; i < d.gpu->mig_count; i++) {
        const struct mig *m = &d.gpu->migs[i];
        if (m->gi != d.mig->gi || m->ci != id) continue;
        ci->handle = (void *)handle_for(m->uuid);
        return ci->handle ? NVML_SUCCESS : NVML_ERROR_MEMORY;
    }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t model_nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t ci, nvmlComputeInstanceInfo_t *info) {
    struct device d;
    NEED(info);
    nvmlReturn_t r = instance((void *)ci.handle, &d);
    if (r) return r;
    memset(info, 0, sizeof *info);
    info->device.handle = handle_for(d.gpu->uuid);
    info->gpuInstance.handle = (void *)ci.handle;
    info->id = d.mig->ci;
    info->profileId = profile_of(d.mig->compute_slices);
    info->placement.size = d.mig->compute_slices;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlComputeInstanceGetInfo(nvmlComputeInstance_t ci, nvmlComputeInstanceInfo_t *info) {
    return model_nvmlComputeInstanceGetInfo_v2(ci, info);
}
