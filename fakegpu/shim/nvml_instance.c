/* The profiles of GPU instances and of compute instances, and where they are. */
#include "mig.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct profile profiles[] = {
    {19, NVML_GPU_INSTANCE_PROFILE_1_SLICE, 1, 1, 7, ""},      {20, NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1, 1, 1, 1, "+me"},
    {15, NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV2, 1, 2, 4, ""}, {14, NVML_GPU_INSTANCE_PROFILE_2_SLICE, 2, 2, 3, ""},
    {9, NVML_GPU_INSTANCE_PROFILE_3_SLICE, 3, 4, 2, ""},       {5, NVML_GPU_INSTANCE_PROFILE_4_SLICE, 4, 4, 1, ""},
    {0, NVML_GPU_INSTANCE_PROFILE_7_SLICE, 7, 8, 1, ""},
};
enum { PROFILES = sizeof profiles / sizeof *profiles };

/* What nvidia-smi mig -lgip shows of an A100, an H100 and a B200, in the order of
 * the profiles. */
static const struct engines of_ampere[PROFILES] = {{1, 0, 0, 0}, {1, 1, 1, 1}, {1, 1, 0, 0}, {2, 1, 0, 0}, {3, 2, 0, 0}, {4, 2, 0, 0}, {7, 5, 1, 1}};
static const struct engines of_hopper[PROFILES] = {{1, 1, 1, 0}, {1, 1, 1, 1}, {1, 1, 1, 0}, {2, 2, 2, 0}, {3, 3, 3, 0}, {4, 4, 4, 0}, {8, 7, 7, 1}};
static const struct engines of_blackwell[PROFILES] = {{2, 1, 1, 0}, {2, 1, 1, 1}, {2, 1, 1, 0}, {4, 2, 2, 0}, {6, 3, 3, 0}, {8, 4, 4, 0}, {16, 7, 7, 1}};

const struct profile *profile_of(const struct mig *m) {
    const struct profile *p = profiles;
    while (p < profiles + PROFILES - 1 && p->id != m->profile) p++;
    return p;
}

struct engines profile_engines(const struct gpu *g, const struct profile *p) {
    const struct engines *all = g->architecture >= NVML_DEVICE_ARCH_BLACKWELL ? of_blackwell
                              : g->architecture >= NVML_DEVICE_ARCH_HOPPER    ? of_hopper
                                                                              : of_ampere;
    return all[p - profiles];
}

/* The share of the memory is in whole GiB, as names have it. */
void profile_name(const struct gpu *g, const struct profile *p, char *to, unsigned long size) {
    unsigned int share = (unsigned int)((((g->memory + (1ULL << 30) - 1) >> 30) * p->eighths + 4) / 8);
    snprintf(to, size, "%ug.%ugb%s", p->slices, share, p->media);
}

void mig_name(const struct device *d, char *to, unsigned long size) {
    char share[16] = "", name[32];
    profile_name(d->gpu, profile_of(d->mig), name, sizeof name);
    if (d->mig->compute_slices < d->mig->slices) snprintf(share, sizeof share, "%uc.", d->mig->compute_slices);
    snprintf(to, size, "%s MIG %s%s", d->gpu->name, share, name);
}

static unsigned long long sms_of(const struct gpu *g, const struct profile *p) {
    const unsigned long long sms[PROFILES] = {g->mig_sms_1g, g->mig_sms_1g, g->mig_sms_1g_double, g->mig_sms_2g,
                                              g->mig_sms_3g, g->mig_sms_4g, g->mig_sms_7g};
    return sms[p - profiles];
}

static unsigned long long megabytes_of(const struct gpu *g, const struct profile *p) {
    const unsigned long long mb[PROFILES] = {g->mig_mb_1g, g->mig_mb_1g, g->mig_mb_1g_double, g->mig_mb_2g,
                                             g->mig_mb_3g, g->mig_mb_4g, g->mig_mb_7g};
    return mb[p - profiles];
}

/* profile_numbered finds a kind of GPU instance by NVML_GPU_INSTANCE_PROFILE_*,
 * and profile_id by its id, if the GPU has it. */
static nvmlReturn_t profile_numbered(const struct gpu *g, unsigned int number, const struct profile **found) {
    SUPPORT(g->mig_max);
    NEED(number < NVML_GPU_INSTANCE_PROFILE_COUNT);
    const struct profile *p = profiles;
    while (p < profiles + PROFILES && p->number != number) p++;
    SUPPORT(p < profiles + PROFILES && sms_of(g, p));
    *found = p;
    return NVML_SUCCESS;
}

static nvmlReturn_t profile_id(const struct gpu *g, unsigned int id, const struct profile **found) {
    SUPPORT(g->mig_max);
    const struct profile *p = profiles;
    while (p < profiles + PROFILES && p->id != id) p++;
    if (id == 6 || id == 10 || id == 21) return NVML_ERROR_NOT_FOUND; /* kinds of other models */
    NEED(p < profiles + PROFILES);
    return profile_numbered(g, p->number, found);
}

/* PROFILE_INFO fills what all versions of the struct have in common. */
#define PROFILE_INFO(g, p, info)                                            \
    do {                                                                    \
        struct engines e = profile_engines(g, p);                           \
        (info)->id = (p)->id;                                               \
        (info)->sliceCount = (p)->slices;                                   \
        (info)->instanceCount = (p)->instances;                             \
        (info)->multiprocessorCount = (unsigned int)sms_of(g, p);           \
        (info)->copyEngineCount = e.copy;                                   \
        (info)->decoderCount = e.decoders;                                  \
        (info)->jpegCount = e.jpeg;                                         \
        (info)->ofaCount = e.ofa;                                           \
        (info)->memorySizeMB = megabytes_of(g, p);                          \
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

/* versioned fills one of the later structs. Real ones answer without MIG mode as
 * well, whatever the header says, and leave no version in the struct. */
static nvmlReturn_t versioned(const struct gpu *g, nvmlReturn_t found, const struct profile *p, nvmlGpuInstanceProfileInfo_v2_t *info) {
    char name[32];
    NEED(info);
    unsigned int version = info->version;
    if (version != nvmlGpuInstanceProfileInfo_v2 && version != nvmlGpuInstanceProfileInfo_v3) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (found) return found;
    profile_name(g, p, name, sizeof name);
    if (version == nvmlGpuInstanceProfileInfo_v3) {
        nvmlGpuInstanceProfileInfo_v3_t *v3 = (void *)info;
        memset(v3, 0, sizeof *v3);
        PROFILE_INFO(g, p, v3);
        snprintf(v3->name, sizeof v3->name, "MIG %s", name);
        return NVML_SUCCESS;
    }
    memset(info, 0, sizeof *info);
    PROFILE_INFO(g, p, info);
    snprintf(info->name, sizeof info->name, "MIG %s", name);
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetGpuInstanceProfileInfoV(const struct gpu *g, unsigned int profile, nvmlGpuInstanceProfileInfo_v2_t *info) {
    const struct profile *p = NULL;
    nvmlReturn_t found = profile_numbered(g, profile, &p);
    return versioned(g, found, p, info);
}

nvmlReturn_t model_nvmlDeviceGetGpuInstanceProfileInfoByIdV(const struct gpu *g, unsigned int id, nvmlGpuInstanceProfileInfo_v2_t *info) {
    const struct profile *p = NULL;
    nvmlReturn_t found = profile_id(g, id, &p);
    return versioned(g, found, p, info);
}

/* start_of is the nth place where a kind can be; there are as many as can exist,
 * but the one with the media engines can be at each place of those without. */
static unsigned int starts_of(const struct profile *p) { return *p->media ? 7 : p->instances; }
static unsigned int start_of(const struct profile *p, unsigned int n) { return n * p->eighths; }

nvmlReturn_t model_nvmlDeviceGetGpuInstancePossiblePlacements_v2(const struct gpu *g, unsigned int id, nvmlGpuInstancePlacement_t *placements,
                                                                 unsigned int *count) {
    const struct profile *p;
    NEED(count);
    nvmlReturn_t r = profile_id(g, id, &p);
    if (r) return r;
    *count = starts_of(p);
    for (unsigned int i = 0; placements && i < *count; i++) placements[i] = (nvmlGpuInstancePlacement_t){start_of(p, i), p->eighths};
    return NVML_SUCCESS;
}

/* The header: the first version needs room for all of them. */
nvmlReturn_t model_nvmlDeviceGetGpuInstancePossiblePlacements(const struct gpu *g, unsigned int id, nvmlGpuInstancePlacement_t *placements,
                                                              unsigned int *count) {
    NEED(placements);
    return model_nvmlDeviceGetGpuInstancePossiblePlacements_v2(g, id, placements, count);
}

/* How many more there is room for: in eighths that are free, and in slices. */
nvmlReturn_t model_nvmlDeviceGetGpuInstanceRemainingCapacity(const struct gpu *g, unsigned int id, unsigned int *count) {
    const struct profile *p;
    NEED(count);
    nvmlReturn_t r = profile_id(g, id, &p);
    if (r) return r;
    SUPPORT(g->mig_mode);
    unsigned int taken = 0, slices = 0, exist = 0, free = 0;
    for (const struct mig *m = g->migs; m < g->migs + g->mig_count; m++) {
        taken |= ((1U << profile_of(m)->eighths) - 1) << m->start;
        slices += m->slices;
        exist += m->profile == id;
    }
    for (unsigned int i = 0; i < starts_of(p); i++) free += !(taken & ((1U << p->eighths) - 1) << start_of(p, i));
    unsigned int room = (7 - slices) / p->slices, left = p->instances - exist;
    if (room > free) room = free;
    *count = room < left ? room : left;
    return NVML_SUCCESS;
}

/* The handle of an instance is that of a MIG device in it: of the first one for
 * a GPU instance, of the only one for a compute instance. */

static nvmlReturn_t instance(struct nvmlDevice_st *handle, struct device *d) {
    nvmlReturn_t r = handle_device(handle, d);
    if (r) return r;
    NEED(d->mig);
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetGpuInstanceById(const struct gpu *g, unsigned int id, nvmlGpuInstance_t *gi) {
    NEED(gi);
    SUPPORT(g->mig_max);
    for (unsigned int i = 0; i < g->mig_count; i++) {
        if (g->migs[i].gi != id) continue;
        gi->handle = (void *)handle_for(g->migs[i].uuid);
        return gi->handle ? NVML_SUCCESS : NVML_ERROR_MEMORY;
    }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t model_nvmlDeviceGetGpuInstances(const struct gpu *g, unsigned int id, nvmlGpuInstance_t *list, unsigned int *count) {
    NEED(list && count);
    SUPPORT(g->mig_mode);
    *count = 0;
    for (unsigned int i = 0; i < g->mig_count; i++) {
        unsigned int first = 0;
        while (g->migs[first].gi != g->migs[i].gi) first++;
        if (first < i || g->migs[i].profile != id) continue;
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
    info->profileId = d.mig->profile;
    info->placement.size = profile_of(d.mig)->eighths;
    info->placement.start = d.mig->start;
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
    struct engines e = profile_engines(d.gpu, profile_of(d.mig));
    info->sharedCopyEngineCount = e.copy;
    info->sharedDecoderCount = e.decoders;
    info->sharedJpegCount = e.jpeg;
    info->sharedOfaCount = e.ofa;
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
