/* MIG devices that exist already: each is one compute instance of a GPU
 * instance. Making and destroying them is not modelled. */
#include "state.h"

#include <stddef.h>
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

/* The struct of the first version ends before the slices; its callers have no
 * room for more. */
nvmlReturn_t model_nvmlDeviceGetAttributes(const struct device *d, nvmlDeviceAttributes_t *attributes) {
    nvmlDeviceAttributes_t all;
    NEED(attributes);
    nvmlReturn_t r = model_nvmlDeviceGetAttributes_v2(d, &all);
    if (r == NVML_SUCCESS) memcpy(attributes, &all, offsetof(nvmlDeviceAttributes_t, gpuInstanceSliceCount));
    return r;
}

/* The kinds of GPU instances. The ids are those that nvidia-smi shows for the
 * A100 and H100 (NVIDIA's MIG user guide); the memory is in eighths of the GPU's.
 * mig.go has the same. */
struct profile { unsigned int number, slices, eighths, id, instances; };
static const struct profile profiles[] = {
    {NVML_GPU_INSTANCE_PROFILE_1_SLICE, 1, 1, 19, 7},      {NVML_GPU_INSTANCE_PROFILE_2_SLICE, 2, 2, 14, 3},
    {NVML_GPU_INSTANCE_PROFILE_3_SLICE, 3, 4, 9, 2},       {NVML_GPU_INSTANCE_PROFILE_4_SLICE, 4, 4, 5, 1},
    {NVML_GPU_INSTANCE_PROFILE_7_SLICE, 7, 8, 0, 1},       {NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV2, 1, 2, 15, 4},
};
enum { PROFILES = sizeof profiles / sizeof *profiles, DOUBLE = PROFILES - 1 };

/* profile_of finds the kind of GPU instance that a MIG device is of. */
static const struct profile *profile_of(const struct gpu *g, const struct mig *m) {
    if (m->slices == 1 && m->memory > g->memory / 8 * 3 / 2) return &profiles[DOUBLE];
    const struct profile *p = profiles;
    while (p < profiles + DOUBLE - 1 && p->slices < m->slices) p++;
    return p;
}

unsigned int mig_eighths(const struct device *d) { return profile_of(d->gpu, d->mig)->eighths; }

/* gigabytes is a share of the memory in whole GiB, as names have it. */
static unsigned int gigabytes(const struct gpu *g, const struct profile *p) {
    return (unsigned int)((((g->memory + (1ULL << 30) - 1) >> 30) * p->eighths + 4) / 8);
}

void mig_name(const struct device *d, char *to, unsigned long size) {
    const struct mig *m = d->mig;
    char share[16] = "";
    if (m->compute_slices < m->slices) snprintf(share, sizeof share, "%uc.", m->compute_slices);
    snprintf(to, size, "%s MIG %s%ug.%ugb", d->gpu->name, share, m->slices, gigabytes(d->gpu, profile_of(d->gpu, m)));
}

static unsigned long long sms_of(const struct gpu *g, const struct profile *p) {
    const unsigned long long sms[PROFILES] = {g->mig_sms_1g, g->mig_sms_2g, g->mig_sms_3g, g->mig_sms_4g, g->mig_sms_7g, g->mig_sms_1g_double};
    return sms[p - profiles];
}

/* profile_numbered finds a kind of GPU instance by NVML_GPU_INSTANCE_PROFILE_*,
 * if the GPU has it. */
static nvmlReturn_t profile_numbered(const struct gpu *g, unsigned int number, const struct profile **found) {
    SUPPORT(g->mig_max);
    NEED(number < NVML_GPU_INSTANCE_PROFILE_COUNT);
    const struct profile *p = profiles;
    while (p < profiles + PROFILES && p->number != number) p++;
    SUPPORT(p < profiles + PROFILES && sms_of(g, p));
    *found = p;
    return NVML_SUCCESS;
}

/* PROFILE_INFO fills what all versions of the struct have in common. */
#define PROFILE_INFO(g, p, info)                                            \
    do {                                                                    \
        (info)->id = (p)->id;                                               \
        (info)->sliceCount = (p)->slices;                                   \
        (info)->instanceCount = (p)->instances;                             \
        (info)->multiprocessorCount = (unsigned int)sms_of(g, p);           \
        (info)->copyEngineCount = (p)->slices;                              \
        (info)->memorySizeMB = ((g)->memory >> 20) * (p)->eighths / 8;      \
    } while (0)

nvmlReturn_t model_nvmlDeviceGetGpuInstanceProfileInfo(const struct gpu *g, unsigned int profile, nvmlGpuInstanceProfileInfo_t *info) {
    const struct profile *p;
    NEED(info);
    nvmlReturn_t r = profile_numbered(g, profile, &p);
    if (r) return r;
    memset(info, 0, sizeof *info);
    PROFILE_INFO(g, p, info);
    return NVML_SUCCESS;
}

/* versioned fills one of the later structs. The header: these are only for GPUs in MIG mode. */
static nvmlReturn_t versioned(const struct gpu *g, nvmlReturn_t found, const struct profile *p, nvmlGpuInstanceProfileInfo_v2_t *info) {
    NEED(info);
    unsigned int version = info->version;
    if (version != nvmlGpuInstanceProfileInfo_v2 && version != nvmlGpuInstanceProfileInfo_v3) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (found) return found;
    SUPPORT(g->mig_mode);
    if (version == nvmlGpuInstanceProfileInfo_v3) {
        nvmlGpuInstanceProfileInfo_v3_t *v3 = (void *)info;
        memset(v3, 0, sizeof *v3);
        v3->version = version;
        PROFILE_INFO(g, p, v3);
        snprintf(v3->name, sizeof v3->name, "MIG %ug.%ugb", p->slices, gigabytes(g, p));
        return NVML_SUCCESS;
    }
    memset(info, 0, sizeof *info);
    info->version = version;
    PROFILE_INFO(g, p, info);
    snprintf(info->name, sizeof info->name, "MIG %ug.%ugb", p->slices, gigabytes(g, p));
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetGpuInstanceProfileInfoV(const struct gpu *g, unsigned int profile, nvmlGpuInstanceProfileInfo_v2_t *info) {
    const struct profile *p = NULL;
    nvmlReturn_t found = profile_numbered(g, profile, &p);
    return versioned(g, found, p, info);
}

nvmlReturn_t model_nvmlDeviceGetGpuInstanceProfileInfoByIdV(const struct gpu *g, unsigned int id, nvmlGpuInstanceProfileInfo_v2_t *info) {
    const struct profile *p = profiles;
    while (p < profiles + PROFILES && p->id != id) p++;
    nvmlReturn_t found = p == profiles + PROFILES ? NVML_ERROR_INVALID_ARGUMENT : profile_numbered(g, p->number, &p);
    return versioned(g, found, p, info);
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
        if (first < i || profile_of(g, &g->migs[i])->id != profile_id) continue;
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
    info->profileId = profile_of(d.gpu, d.mig)->id;
    info->placement.size = profile_of(d.gpu, d.mig)->eighths;
    for (const struct mig *m = d.gpu->migs; m < d.mig; m++) info->placement.start += profile_of(d.gpu, m)->eighths;
    return NVML_SUCCESS;
}

/* The sizes of compute instances, in the order of
 * NVML_COMPUTE_INSTANCE_PROFILE_*, which are also their ids here. */
static const unsigned int compute_slices[] = {1, 2, 3, 4, 7};
enum { COMPUTE_PROFILES = sizeof compute_slices / sizeof *compute_slices };

nvmlReturn_t model_nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t gi, unsigned int profile, unsigned int engines,
                                                                nvmlComputeInstanceProfileInfo_t *info) {
    struct device d;
    NEED(info && profile < NVML_COMPUTE_INSTANCE_PROFILE_COUNT && engines < NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_COUNT);
    nvmlReturn_t r = instance((void *)gi.handle, &d);
    if (r) return r;
    SUPPORT(profile < COMPUTE_PROFILES && compute_slices[profile] <= d.mig->slices);
    memset(info, 0, sizeof *info);
    info->id = profile;
    info->sliceCount = compute_slices[profile];
    info->instanceCount = d.mig->slices / compute_slices[profile];
    info->multiprocessorCount = d.mig->sms * compute_slices[profile] / d.mig->slices;
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
    while (info->profileId < COMPUTE_PROFILES - 1 && compute_slices[info->profileId] < d.mig->compute_slices) info->profileId++;
    info->placement.size = d.mig->compute_slices;
    return NVML_SUCCESS;
}

/* The struct of the first version ends before the placement. */
nvmlReturn_t model_nvmlComputeInstanceGetInfo(nvmlComputeInstance_t ci, nvmlComputeInstanceInfo_t *info) {
    nvmlComputeInstanceInfo_t all;
    NEED(info);
    nvmlReturn_t r = model_nvmlComputeInstanceGetInfo_v2(ci, &all);
    if (r == NVML_SUCCESS) memcpy(info, &all, offsetof(nvmlComputeInstanceInfo_t, placement));
    return r;
}
