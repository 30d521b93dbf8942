/* What changes while a GPU works: memory, load, and the link to it. */
#include "mig.h"

#include <string.h>

/* memory_of tells the memory of a GPU or of a MIG device. Nothing runs on the
 * MIG devices. */
static void memory_of(const struct device *d, unsigned long long *total, unsigned long long *used, unsigned long long *reserved) {
    *total = d->mig ? d->mig->memory : d->gpu->memory;
    *used = d->mig ? 0 : d->gpu->memory_used;
    *reserved = d->mig ? 0 : d->gpu->memory_reserved;
}

nvmlReturn_t model_nvmlDeviceGetMemoryInfo(const struct device *d, nvmlMemory_t *memory) {
    unsigned long long used, reserved;
    NEED(memory);
    memory_of(d, &memory->total, &used, &reserved);
    memory->used = used + reserved; /* version 1 does not tell them apart */
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetMemoryInfo_v2(const struct device *d, nvmlMemory_v2_t *memory) {
    NEED(memory);
    VERSION(memory, nvmlMemory_v2);
    memory_of(d, &memory->total, &memory->used, &memory->reserved);
    memory->free = memory->total - memory->used - memory->reserved;
    return NVML_SUCCESS;
}

/* A MIG device has the same share of BAR1 as of the memory. */
nvmlReturn_t model_nvmlDeviceGetBAR1MemoryInfo(const struct device *d, nvmlBAR1Memory_t *memory) {
    NEED(memory);
    SUPPORT(d->gpu->bar1);
    memory->bar1Total = d->mig ? d->gpu->bar1 / 8 * profile_of(d->mig)->eighths : d->gpu->bar1;
    memory->bar1Used = d->mig ? 0 : d->gpu->bar1_used;
    memory->bar1Free = memory->bar1Total - memory->bar1Used;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetUtilizationRates(const struct gpu *g, nvmlUtilization_t *utilization) {
    NEED(utilization);
    SUPPORT(!g->mig_mode); /* the header: not on GPUs with MIG */
    utilization->gpu = (unsigned int)g->utilization_gpu;
    utilization->memory = (unsigned int)g->utilization_memory;
    return NVML_SUCCESS;
}

/* engine gives the load of an engine beside the SMs. */
static nvmlReturn_t engine(const struct gpu *g, unsigned long long load, unsigned int *utilization, unsigned int *period_us) {
    NEED(utilization && period_us);
    SUPPORT(!g->mig_mode);
    *utilization = (unsigned int)load;
    *period_us = 100000; /* that of a real H200 */
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetEncoderUtilization(const struct gpu *g, unsigned int *utilization, unsigned int *period_us) {
    return engine(g, g->utilization_encoder, utilization, period_us);
}

nvmlReturn_t model_nvmlDeviceGetDecoderUtilization(const struct gpu *g, unsigned int *utilization, unsigned int *period_us) {
    return engine(g, g->utilization_decoder, utilization, period_us);
}

nvmlReturn_t model_nvmlDeviceGetJpgUtilization(const struct gpu *g, unsigned int *utilization, unsigned int *period_us) {
    return engine(g, g->utilization_jpeg, utilization, period_us);
}

nvmlReturn_t model_nvmlDeviceGetOfaUtilization(const struct gpu *g, unsigned int *utilization, unsigned int *period_us) {
    return engine(g, g->utilization_ofa, utilization, period_us);
}

nvmlReturn_t model_nvmlDeviceGetDynamicPstatesInfo(const struct gpu *g, nvmlGpuDynamicPstatesInfo_t *info) {
    NEED(info);
    memset(info, 0, sizeof *info);
    /* The fourth is the bus, of which nothing is known. */
    const unsigned long long shares[] = {g->utilization_gpu, g->utilization_memory, g->utilization_decoder, 0};
    for (unsigned int i = 0; i < sizeof shares / sizeof *shares; i++) {
        info->utilization[i].bIsPresent = 1;
        info->utilization[i].percentage = (unsigned int)shares[i];
    }
    return NVML_SUCCESS;
}

/* One sample at the time of the call: the state is what it is. */
nvmlReturn_t model_nvmlDeviceGetSamples(const struct gpu *g, nvmlSamplingType_t type, unsigned long long last_seen,
                                        nvmlValueType_t *value_type, unsigned int *count, nvmlSample_t *samples) {
    NEED(count && value_type && !(samples && *count == 0));
    unsigned long long value;
    switch (type) {
    case NVML_TOTAL_POWER_SAMPLES: value = g->power; break;
    case NVML_GPU_UTILIZATION_SAMPLES: value = g->utilization_gpu; break;
    case NVML_MEMORY_UTILIZATION_SAMPLES: value = g->utilization_memory; break;
    case NVML_ENC_UTILIZATION_SAMPLES: value = g->utilization_encoder; break;
    case NVML_DEC_UTILIZATION_SAMPLES: value = g->utilization_decoder; break;
    case NVML_PROCESSOR_CLK_SAMPLES: value = g->clock_sm; break;
    case NVML_MEMORY_CLK_SAMPLES: value = g->clock_memory; break;
    case NVML_JPG_UTILIZATION_SAMPLES: value = g->utilization_jpeg; break;
    case NVML_OFA_UTILIZATION_SAMPLES: value = g->utilization_ofa; break;
    default: return NVML_ERROR_INVALID_ARGUMENT;
    }
    /* The header: not on GPUs with MIG. */
    SUPPORT(!(g->mig_mode && type >= NVML_GPU_UTILIZATION_SAMPLES && type <= NVML_DEC_UTILIZATION_SAMPLES));
    *value_type = NVML_VALUE_TYPE_UNSIGNED_INT;
    *count = 1;
    if (!samples) return NVML_SUCCESS;
    unsigned long long now = now_us();
    if (last_seen >= now) return NVML_ERROR_NOT_FOUND;
    memset(samples, 0, sizeof *samples);
    samples->timeStamp = now;
    samples->sampleValue.uiVal = (unsigned int)value;
    return NVML_SUCCESS;
}

/* No encoder or frame buffer capture session runs on a fake GPU. */
nvmlReturn_t model_nvmlDeviceGetEncoderStats(const struct gpu *g, unsigned int *sessions, unsigned int *fps, unsigned int *latency) {
    NEED(sessions && fps && latency);
    *sessions = *fps = *latency = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetEncoderSessions(const struct gpu *g, unsigned int *count, nvmlEncoderSessionInfo_t *infos) {
    return give_count(count, infos, 0);
}

nvmlReturn_t model_nvmlDeviceGetEncoderCapacity(const struct gpu *g, nvmlEncoderType_t type, unsigned int *capacity) {
    NEED(capacity && type <= NVML_ENCODER_QUERY_AV1);
    SUPPORT(type != NVML_ENCODER_QUERY_AV1 || g->architecture == NVML_DEVICE_ARCH_ADA);
    *capacity = 100 - (unsigned int)g->utilization_encoder;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetFBCStats(const struct gpu *g, nvmlFBCStats_t *stats) {
    NEED(stats);
    memset(stats, 0, sizeof *stats);
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetFBCSessions(const struct gpu *g, unsigned int *count, nvmlFBCSessionInfo_t *infos) {
    return give_count(count, infos, 0);
}

/* PCIe. */

GETTER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, g->pcie_gen, g->pcie_gen)
GETTER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, g->pcie_gen_max, g->pcie_gen_max)
GETTER(nvmlDeviceGetGpuMaxPcieLinkGeneration, unsigned int, g->pcie_gen_max, g->pcie_gen_device ? g->pcie_gen_device : g->pcie_gen_max)
GETTER(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, g->pcie_width, g->pcie_width)
GETTER(nvmlDeviceGetMaxPcieLinkWidth, unsigned int, g->pcie_width_max, g->pcie_width_max)
GETTER(nvmlDeviceGetPcieReplayCounter, unsigned int, 1, g->pcie_replays)
GETTER(nvmlDeviceGetPcieLinkMaxSpeed, unsigned int, g->pcie_gen_max, g->pcie_gen_max) /* the constants count like the generations */

/* Megabits a second and lane, by generation. */
static const unsigned int pcie_speed[] = {0, 2500, 5000, 8000, 16000, 32000, 64000};
GETTER(nvmlDeviceGetPcieSpeed, unsigned int, g->pcie_gen, pcie_speed[g->pcie_gen])

nvmlReturn_t model_nvmlDeviceGetPcieThroughput(const struct gpu *g, nvmlPcieUtilCounter_t counter, unsigned int *value) {
    NEED(value && counter < NVML_PCIE_UTIL_COUNT);
    *value = (unsigned int)(counter == NVML_PCIE_UTIL_TX_BYTES ? g->pcie_tx : g->pcie_rx);
    return NVML_SUCCESS;
}
