/* Heat, power and clocks. */
#include "state.h"

#include <string.h>

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
    case NVML_TEMPERATURE_THRESHOLD_MEM_MAX: value = g->temperature_memory_max; break;
    case NVML_TEMPERATURE_THRESHOLD_GPU_MAX: value = g->temperature_max; break;
    default: break;
    }
    SUPPORT(value);
    *temperature = (unsigned int)value;
    return NVML_SUCCESS;
}

/* The margin is what is left until the GPU may be throttled: T.Limit. */
nvmlReturn_t model_nvmlDeviceGetMarginTemperature(const struct gpu *g, nvmlMarginTemperature_t *margin) {
    NEED(margin);
    VERSION(margin, nvmlMarginTemperature_v1);
    SUPPORT(has_tlimit(g) && g->temperature_max);
    margin->marginTemperature = (int)g->temperature_max - (int)g->temperature;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetThermalSettings(const struct gpu *g, unsigned int sensor, nvmlGpuThermalSettings_t *settings) {
    NEED(settings);
    memset(settings, 0, sizeof *settings);
    settings->count = 1; /* real ones answer so for any other sensor as well, of which they have none */
    unsigned int place = sensor == NVML_THERMAL_TARGET_ALL ? 0 : sensor;
    if (place >= sizeof settings->sensor / sizeof *settings->sensor) return NVML_SUCCESS;
    settings->sensor[place].controller = NVML_THERMAL_CONTROLLER_GPU_INTERNAL;
    settings->sensor[place].target = NVML_THERMAL_TARGET_GPU;
    if (place) return NVML_SUCCESS;
    settings->sensor[0].currentTemp = (int)g->temperature;
    settings->sensor[0].defaultMaxTemp = 127; /* of every card */
    return NVML_SUCCESS;
}

GETTER(nvmlDeviceGetNumFans, unsigned int, 1, g->fans)
GETTER(nvmlDeviceGetFanSpeed, unsigned int, g->fans, g->fan_speed)

nvmlReturn_t model_nvmlDeviceGetFanSpeed_v2(const struct gpu *g, unsigned int fan, unsigned int *speed) {
    NEED(speed && fan < g->fans);
    *speed = (unsigned int)g->fan_speed;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetTargetFanSpeed(const struct gpu *g, unsigned int fan, unsigned int *speed) {
    return model_nvmlDeviceGetFanSpeed_v2(g, fan, speed);
}

nvmlReturn_t model_nvmlDeviceGetMinMaxFanSpeed(const struct gpu *g, unsigned int *min, unsigned int *max) {
    NEED(min && max && g->fans);
    *min = 0;
    *max = 100;
    return NVML_SUCCESS;
}

/* No fan is under anybody's control, and none tells how fast it turns. */
nvmlReturn_t model_nvmlDeviceGetFanControlPolicy_v2(const struct gpu *g, unsigned int fan, nvmlFanControlPolicy_t *policy) {
    NEED(policy && fan < g->fans);
    *policy = NVML_FAN_POLICY_TEMPERATURE_CONTINOUS_SW;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetFanSpeedRPM(const struct gpu *g, nvmlFanSpeedInfo_t *speed) {
    NEED(speed && speed->fan < g->fans);
    return NVML_ERROR_NOT_SUPPORTED;
}

/* Power. */

GETTER(nvmlDeviceGetPowerUsage, unsigned int, g->power, g->power)
GETTER(nvmlDeviceGetPowerManagementLimit, unsigned int, g->power_limit, g->power_limit)
GETTER(nvmlDeviceGetEnforcedPowerLimit, unsigned int, g->power_limit, g->power_limit)
GETTER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, g->power_default, g->power_default)
GETTER(nvmlDeviceGetPowerManagementMode, nvmlEnableState_t, g->power_limit, NVML_FEATURE_ENABLED)
GETTER(nvmlDeviceGetPowerSource, nvmlPowerSource_t, 1, NVML_POWER_SOURCE_AC)
GETTER(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, g->architecture >= NVML_DEVICE_ARCH_VOLTA, counter_of(g, ENERGY))
GETTER(nvmlDeviceGetPerformanceState, nvmlPstates_t, 1, g->pstate)
GETTER(nvmlDeviceGetPowerState, nvmlPstates_t, 1, g->pstate)

nvmlReturn_t model_nvmlDeviceGetPowerManagementLimitConstraints(const struct gpu *g, unsigned int *min, unsigned int *max) {
    NEED(min && max);
    SUPPORT(g->power_max);
    *min = (unsigned int)g->power_min;
    *max = (unsigned int)g->power_max;
    return NVML_SUCCESS;
}

/* The slow state, if there is one, and the fast one. */
nvmlReturn_t model_nvmlDeviceGetSupportedPerformanceStates(const struct gpu *g, nvmlPstates_t *states, unsigned int size) {
    NEED(states);
    nvmlPstates_t slow = slow_pstate(g);
    unsigned int have = slow == NVML_PSTATE_0 ? 1 : 2, room = size / sizeof *states;
    if (room < have) return NVML_ERROR_INSUFFICIENT_SIZE;
    states[0] = slow;
    for (unsigned int i = 1; i < room; i++) states[i] = i < have ? NVML_PSTATE_0 : NVML_PSTATE_UNKNOWN;
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
    SUPPORT(type < NVML_CLOCK_COUNT);
    return clock_of((const unsigned long long[]){g->clock_graphics, g->clock_sm, g->clock_memory, g->clock_video}, type, clock);
}

nvmlReturn_t model_nvmlDeviceGetMaxClockInfo(const struct gpu *g, nvmlClockType_t type, unsigned int *clock) {
    return clock_of((const unsigned long long[]){g->max_clock_graphics, g->max_clock_sm, g->max_clock_memory, g->max_clock_video}, type, clock);
}

/* Nobody has set other clocks than the default. */
nvmlReturn_t model_nvmlDeviceGetApplicationsClock(const struct gpu *g, nvmlClockType_t type, unsigned int *clock) {
    return clock_of((const unsigned long long[]){g->app_clock_graphics, g->app_clock_graphics, g->app_clock_memory, 0}, type, clock);
}

nvmlReturn_t model_nvmlDeviceGetDefaultApplicationsClock(const struct gpu *g, nvmlClockType_t type, unsigned int *clock) {
    return model_nvmlDeviceGetApplicationsClock(g, type, clock);
}

nvmlReturn_t model_nvmlDeviceGetMaxCustomerBoostClock(const struct gpu *g, nvmlClockType_t type, unsigned int *clock) {
    SUPPORT(type != NVML_CLOCK_MEM && type != NVML_CLOCK_VIDEO);
    return model_nvmlDeviceGetMaxClockInfo(g, type, clock);
}

nvmlReturn_t model_nvmlDeviceGetClock(const struct gpu *g, nvmlClockType_t type, nvmlClockId_t id, unsigned int *clock) {
    switch (id) {
    case NVML_CLOCK_ID_CURRENT: return model_nvmlDeviceGetClockInfo(g, type, clock);
    case NVML_CLOCK_ID_APP_CLOCK_TARGET:
    case NVML_CLOCK_ID_APP_CLOCK_DEFAULT: return model_nvmlDeviceGetApplicationsClock(g, type, clock);
    case NVML_CLOCK_ID_CUSTOMER_BOOST_MAX: return model_nvmlDeviceGetMaxCustomerBoostClock(g, type, clock);
    default: return NVML_ERROR_INVALID_ARGUMENT;
    }
}

/* The highest memory clock and, on most models, one that is lower. */
nvmlReturn_t model_nvmlDeviceGetSupportedMemoryClocks(const struct gpu *g, unsigned int *count, unsigned int *clocks) {
    NEED(count);
    SUPPORT(g->max_clock_memory);
    nvmlReturn_t r = give_count(count, clocks, g->low_clock_memory ? 2 : 1);
    if (r) return r;
    clocks[0] = (unsigned int)g->max_clock_memory;
    if (g->low_clock_memory) clocks[1] = (unsigned int)g->low_clock_memory;
    return NVML_SUCCESS;
}

/* The clocks go up from the lowest in steps of so many halves of a MHz, and NVML
 * lists them from the highest down. */
nvmlReturn_t model_nvmlDeviceGetSupportedGraphicsClocks(const struct gpu *g, unsigned int memory, unsigned int *count, unsigned int *clocks) {
    NEED(count);
    SUPPORT(g->max_clock_graphics && g->clock_half_steps);
    NEED(memory);
    if (memory != g->max_clock_memory && memory != g->low_clock_memory) return NVML_ERROR_NOT_FOUND;
    unsigned long long highest = memory == g->max_clock_memory ? g->max_clock_graphics : g->low_clock_graphics, low = g->clock_lowest;
    unsigned int have = highest <= low ? 1 : (unsigned int)((2 * (highest - low) + 1) / g->clock_half_steps) + 1;
    nvmlReturn_t r = give_count(count, clocks, have);
    for (unsigned int i = 0; r == NVML_SUCCESS && i < have; i++)
        clocks[i] = highest <= low ? (unsigned int)highest : (unsigned int)((2 * low + (have - 1 - i) * g->clock_half_steps) / 2);
    return r;
}

nvmlReturn_t model_nvmlDeviceGetMinMaxClockOfPState(const struct gpu *g, nvmlClockType_t type, nvmlPstates_t pstate, unsigned int *min,
                                                    unsigned int *max) {
    NEED(min && max && type < NVML_CLOCK_COUNT && pstate <= NVML_PSTATE_15);
    int slow = pstate != NVML_PSTATE_0;
    if (slow && pstate != slow_pstate(g)) return NVML_ERROR_UNKNOWN; /* real ones have no other word for it */
    const unsigned long long fastest[] = {
        slow ? g->low_clock_graphics : g->max_clock_graphics, slow ? g->low_clock_graphics : g->max_clock_sm,
        slow ? g->low_clock_memory : g->max_clock_memory, g->max_clock_video,
    };
    nvmlReturn_t r = clock_of(fastest, type, max);
    if (r) return r;
    *min = type == NVML_CLOCK_MEM ? *max : (unsigned int)(type == NVML_CLOCK_VIDEO && g->clock_lowest_video ? g->clock_lowest_video : g->clock_lowest);
    return NVML_SUCCESS;
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
GETTER(nvmlDeviceGetAdaptiveClockInfoStatus, unsigned int, 1, since_hopper(g))

/* Nobody has set other clocks than those of the curve. */
nvmlReturn_t model_nvmlDeviceGetClockOffsets(const struct gpu *g, nvmlClockOffset_t *info) {
    NEED(info);
    VERSION(info, nvmlClockOffset_v1);
    SUPPORT(since_hopper(g) && (info->type == NVML_CLOCK_GRAPHICS || info->type == NVML_CLOCK_MEM));
    info->clockOffsetMHz = info->minClockOffsetMHz = info->maxClockOffsetMHz = 0;
    return NVML_SUCCESS;
}

GETTER(nvmlDeviceGetGpcClkVfOffset, int, since_hopper(g), 0)
GETTER(nvmlDeviceGetMemClkVfOffset, int, since_hopper(g), 0)

nvmlReturn_t model_nvmlDeviceGetGpcClkMinMaxVfOffset(const struct gpu *g, int *min, int *max) {
    NEED(min && max);
    SUPPORT(since_hopper(g));
    *min = *max = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetMemClkMinMaxVfOffset(const struct gpu *g, int *min, int *max) {
    return model_nvmlDeviceGetGpcClkMinMaxVfOffset(g, min, max);
}

/* What has slowed a GPU down: its power, or its heat. */
nvmlReturn_t model_nvmlDeviceGetViolationStatus(const struct gpu *g, nvmlPerfPolicyType_t type, nvmlViolationTime_t *time) {
    NEED(time && type < NVML_PERF_POLICY_COUNT && (type <= NVML_PERF_POLICY_RELIABILITY || type >= NVML_PERF_POLICY_TOTAL_APP_CLOCKS));
    time->referenceTime = now_us();
    time->violationTime = type == NVML_PERF_POLICY_POWER ? counter_of(g, CAPPED) : type == NVML_PERF_POLICY_THERMAL ? counter_of(g, HOT) : 0;
    return NVML_SUCCESS;
}
