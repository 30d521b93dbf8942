/* What changes while a GPU works: memory, load, heat, power, clocks. */
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
    *period_us = 167000; /* a sixth of a second, the driver's usual period */
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
    const unsigned long long shares[] = {g->utilization_gpu, g->utilization_memory, g->utilization_decoder};
    for (unsigned int i = 0; i < 3; i++) {
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
    case NVML_MODULE_POWER_SAMPLES: return NVML_ERROR_NOT_SUPPORTED;
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

/* Heat. */

nvmlReturn_t model_nvmlDeviceGetTemperature(const struct gpu *g, nvmlTemperatureSensors_t sensor, unsigned int *temperature) {
    NEED(sensor == NVML_TEMPERATURE_GPU && temperature);
    *temperature = (unsigned int)g->temperature;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetTemperatureV(const struct gpu *g, nvmlTemperature_t *temperature) {
    NEED(temperature);
    VERSION(temperature, nvmlTemperature_v1);
    NEED(temperature->sensorType == NVML_TEMPERATURE_GPU);
    temperature->temperature = (int)g->temperature;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetTemperatureThreshold(const struct gpu *g, nvmlTemperatureThresholds_t type, unsigned int *temperature) {
    NEED(temperature && type < NVML_TEMPERATURE_THRESHOLD_COUNT);
    unsigned long long value = 0;
    switch (type) {
    case NVML_TEMPERATURE_THRESHOLD_SHUTDOWN: value = g->temperature_shutdown; break;
    case NVML_TEMPERATURE_THRESHOLD_SLOWDOWN: value = g->temperature_slowdown; break;
    case NVML_TEMPERATURE_THRESHOLD_GPU_MAX: value = g->temperature_max; break;
    default: break;
    }
    SUPPORT(value);
    *temperature = (unsigned int)value;
    return NVML_SUCCESS;
}

/* The margin is what is left until the GPU slows down. */
nvmlReturn_t model_nvmlDeviceGetMarginTemperature(const struct gpu *g, nvmlMarginTemperature_t *margin) {
    NEED(margin);
    VERSION(margin, nvmlMarginTemperature_v1);
    SUPPORT(g->temperature_slowdown);
    margin->marginTemperature = (int)g->temperature_slowdown - (int)g->temperature;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetThermalSettings(const struct gpu *g, unsigned int sensor, nvmlGpuThermalSettings_t *settings) {
    NEED(settings && (sensor == 0 || sensor == NVML_THERMAL_TARGET_ALL));
    memset(settings, 0, sizeof *settings);
    settings->count = 1;
    settings->sensor[0].controller = NVML_THERMAL_CONTROLLER_GPU_INTERNAL;
    settings->sensor[0].target = NVML_THERMAL_TARGET_GPU;
    settings->sensor[0].currentTemp = (int)g->temperature;
    settings->sensor[0].defaultMaxTemp = (int)g->temperature_max;
    return NVML_SUCCESS;
}

GETTER(nvmlDeviceGetNumFans, unsigned int, g->fans, g->fans)
GETTER(nvmlDeviceGetFanSpeed, unsigned int, g->fans, g->fan_speed)

nvmlReturn_t model_nvmlDeviceGetFanSpeed_v2(const struct gpu *g, unsigned int fan, unsigned int *speed) {
    NEED(speed);
    SUPPORT(g->fans);
    NEED(fan < g->fans);
    *speed = (unsigned int)g->fan_speed;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetTargetFanSpeed(const struct gpu *g, unsigned int fan, unsigned int *speed) {
    return model_nvmlDeviceGetFanSpeed_v2(g, fan, speed);
}

nvmlReturn_t model_nvmlDeviceGetMinMaxFanSpeed(const struct gpu *g, unsigned int *min, unsigned int *max) {
    NEED(min && max);
    SUPPORT(g->fans);
    *min = 0;
    *max = 100;
    return NVML_SUCCESS;
}

/* Power. */

GETTER(nvmlDeviceGetPowerUsage, unsigned int, g->power, g->power)
GETTER(nvmlDeviceGetPowerManagementLimit, unsigned int, g->power_limit, g->power_limit)
GETTER(nvmlDeviceGetEnforcedPowerLimit, unsigned int, g->power_limit, g->power_limit)
GETTER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, g->power_default, g->power_default)
GETTER(nvmlDeviceGetPowerManagementMode, nvmlEnableState_t, g->power_limit, NVML_FEATURE_ENABLED)
GETTER(nvmlDeviceGetPowerSource, nvmlPowerSource_t, 1, NVML_POWER_SOURCE_AC)
GETTER(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, g->architecture >= NVML_DEVICE_ARCH_VOLTA, g->energy)
GETTER(nvmlDeviceGetPerformanceState, nvmlPstates_t, 1, g->pstate)
GETTER(nvmlDeviceGetPowerState, nvmlPstates_t, 1, g->pstate)

nvmlReturn_t model_nvmlDeviceGetPowerManagementLimitConstraints(const struct gpu *g, unsigned int *min, unsigned int *max) {
    NEED(min && max);
    SUPPORT(g->power_max);
    *min = (unsigned int)g->power_min;
    *max = (unsigned int)g->power_max;
    return NVML_SUCCESS;
}

/* The highest state and the idle one. */
nvmlReturn_t model_nvmlDeviceGetSupportedPerformanceStates(const struct gpu *g, nvmlPstates_t *states, unsigned int size) {
    NEED(states);
    if (size < 2 * sizeof *states) return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned int i = 0; i < size / sizeof *states; i++) states[i] = NVML_PSTATE_UNKNOWN;
    states[0] = NVML_PSTATE_0;
    states[1] = NVML_PSTATE_8;
    return NVML_SUCCESS;
}

/* Clocks. */

static nvmlReturn_t clock_of(const unsigned long long clocks[NVML_CLOCK_COUNT], nvmlClockType_t type, unsigned int *clock) {
    NEED(clock && type < NVML_CLOCK_COUNT);
    SUPPORT(clocks[type]);
    *clock = (unsigned int)clocks[type];
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetClockInfo(const struct gpu *g, nvmlClockType_t type, unsigned int *clock) {
    return clock_of((const unsigned long long[]){g->clock_graphics, g->clock_sm, g->clock_memory, g->clock_video}, type, clock);
}

nvmlReturn_t model_nvmlDeviceGetMaxClockInfo(const struct gpu *g, nvmlClockType_t type, unsigned int *clock) {
    return clock_of((const unsigned long long[]){g->max_clock_graphics, g->max_clock_sm, g->max_clock_memory, g->max_clock_video}, type, clock);
}

/* Nobody has set other clocks than the default, which is the highest. */
nvmlReturn_t model_nvmlDeviceGetApplicationsClock(const struct gpu *g, nvmlClockType_t type, unsigned int *clock) {
    return model_nvmlDeviceGetMaxClockInfo(g, type, clock);
}

nvmlReturn_t model_nvmlDeviceGetDefaultApplicationsClock(const struct gpu *g, nvmlClockType_t type, unsigned int *clock) {
    return model_nvmlDeviceGetMaxClockInfo(g, type, clock);
}

nvmlReturn_t model_nvmlDeviceGetMaxCustomerBoostClock(const struct gpu *g, nvmlClockType_t type, unsigned int *clock) {
    return model_nvmlDeviceGetMaxClockInfo(g, type, clock);
}

nvmlReturn_t model_nvmlDeviceGetClock(const struct gpu *g, nvmlClockType_t type, nvmlClockId_t id, unsigned int *clock) {
    NEED(id < NVML_CLOCK_ID_COUNT);
    return id == NVML_CLOCK_ID_CURRENT ? model_nvmlDeviceGetClockInfo(g, type, clock) : model_nvmlDeviceGetMaxClockInfo(g, type, clock);
}

nvmlReturn_t model_nvmlDeviceGetSupportedMemoryClocks(const struct gpu *g, unsigned int *count, unsigned int *clocks) {
    NEED(count);
    SUPPORT(g->max_clock_memory);
    nvmlReturn_t r = give_count(count, clocks, 1);
    if (r == NVML_SUCCESS) *clocks = (unsigned int)g->max_clock_memory;
    return r;
}

/* The clocks go down from the highest in the usual steps. */
nvmlReturn_t model_nvmlDeviceGetSupportedGraphicsClocks(const struct gpu *g, unsigned int memory, unsigned int *count, unsigned int *clocks) {
    enum { STEP = 15, LOWEST = 210 };
    NEED(count);
    SUPPORT(g->max_clock_graphics);
    if (memory != g->max_clock_memory) return NVML_ERROR_NOT_FOUND;
    unsigned int highest = (unsigned int)g->max_clock_graphics;
    unsigned int have = highest <= LOWEST ? 1 : (highest - LOWEST) / STEP + 1;
    nvmlReturn_t r = give_count(count, clocks, have);
    for (unsigned int i = 0; r == NVML_SUCCESS && i < have; i++) clocks[i] = highest - i * STEP;
    return r;
}

nvmlReturn_t model_nvmlDeviceGetMinMaxClockOfPState(const struct gpu *g, nvmlClockType_t type, nvmlPstates_t pstate, unsigned int *min,
                                                    unsigned int *max) {
    NEED(min && max && pstate <= NVML_PSTATE_15);
    SUPPORT(pstate == NVML_PSTATE_0 || pstate == NVML_PSTATE_8);
    *min = 210;
    return model_nvmlDeviceGetMaxClockInfo(g, type, max);
}

nvmlReturn_t model_nvmlDeviceGetAutoBoostedClocksEnabled(const struct gpu *g, nvmlEnableState_t *enabled, nvmlEnableState_t *by_default) {
    NEED(enabled && by_default);
    return NVML_ERROR_NOT_SUPPORTED; /* only Kepler had them */
}

#define ALL_REASONS                                                                                                             \
    (nvmlClocksEventReasonGpuIdle | nvmlClocksEventReasonApplicationsClocksSetting | nvmlClocksEventReasonSwPowerCap |          \
     nvmlClocksThrottleReasonHwSlowdown | nvmlClocksEventReasonSyncBoost | nvmlClocksEventReasonSwThermalSlowdown |             \
     nvmlClocksThrottleReasonHwThermalSlowdown | nvmlClocksThrottleReasonHwPowerBrakeSlowdown | nvmlClocksEventReasonDisplayClockSetting)

GETTER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, 1, g->clock_reasons)
GETTER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, 1, g->clock_reasons)
GETTER(nvmlDeviceGetSupportedClocksEventReasons, unsigned long long, 1, ALL_REASONS)
GETTER(nvmlDeviceGetSupportedClocksThrottleReasons, unsigned long long, 1, ALL_REASONS)
GETTER(nvmlDeviceGetAdaptiveClockInfoStatus, unsigned int, 1, NVML_ADAPTIVE_CLOCKING_INFO_STATUS_DISABLED)

/* A fake GPU was never slowed down for any time. */
nvmlReturn_t model_nvmlDeviceGetViolationStatus(const struct gpu *g, nvmlPerfPolicyType_t type, nvmlViolationTime_t *time) {
    NEED(time && type < NVML_PERF_POLICY_COUNT);
    time->referenceTime = now_us();
    time->violationTime = 0;
    return NVML_SUCCESS;
}

/* PCIe. */

GETTER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, g->pcie_gen, g->pcie_gen)
GETTER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, g->pcie_gen_max, g->pcie_gen_max)
GETTER(nvmlDeviceGetGpuMaxPcieLinkGeneration, unsigned int, g->pcie_gen_max, g->pcie_gen_max)
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

/* Modes. */

GETTER(nvmlDeviceGetPersistenceMode, nvmlEnableState_t, 1, g->persistence)

nvmlReturn_t model_nvmlDeviceGetComputeMode(const struct device *d, nvmlComputeMode_t *mode) {
    NEED(mode);
    *mode = (nvmlComputeMode_t)d->gpu->compute_mode;
    return NVML_SUCCESS;
}

GETTER(nvmlDeviceGetAccountingMode, nvmlEnableState_t, 1, NVML_FEATURE_DISABLED)
/* The header: neither is supported while the mode is disabled. */
GETTER(nvmlDeviceGetAccountingBufferSize, unsigned int, 0, 0)

nvmlReturn_t model_nvmlDeviceGetAccountingPids(const struct gpu *g, unsigned int *count, unsigned int *pids) {
    NEED(count);
    return NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t model_nvmlDeviceGetAPIRestriction(const struct gpu *g, nvmlRestrictedAPI_t type, nvmlEnableState_t *restricted) {
    NEED(restricted && type < NVML_RESTRICTED_API_COUNT);
    *restricted = NVML_FEATURE_ENABLED; /* only root may */
    return NVML_SUCCESS;
}
