/* Modes of a GPU, and how root sets them. */
#include "state.h"

#include <string.h>

GETTER(nvmlDeviceGetPersistenceMode, nvmlEnableState_t, 1, g->persistence)

nvmlReturn_t model_nvmlDeviceGetComputeMode(const struct device *d, nvmlComputeMode_t *mode) {
    NEED(mode);
    *mode = (nvmlComputeMode_t)d->gpu->compute_mode;
    return NVML_SUCCESS;
}

GETTER(nvmlDeviceGetAccountingMode, nvmlEnableState_t, 1, g->accounting)
GETTER(nvmlDeviceGetAccountingBufferSize, unsigned int, 1, 4000)

/* Those that run; the fake forgets who has ended. The header: not while the mode
 * is disabled. */
nvmlReturn_t model_nvmlDeviceGetAccountingPids(const struct gpu *g, unsigned int *count, unsigned int *pids) {
    NEED(count);
    SUPPORT(g->accounting);
    nvmlReturn_t r = give_count(count, pids, g->process_count);
    for (unsigned int i = 0; r == NVML_SUCCESS && i < g->process_count; i++) pids[i] = g->processes[i].pid;
    return r;
}

nvmlReturn_t model_nvmlDeviceGetAccountingStats(const struct gpu *g, unsigned int pid, nvmlAccountingStats_t *stats) {
    NEED(stats);
    SUPPORT(g->accounting);
    for (const struct process *p = g->processes; p < g->processes + g->process_count; p++) {
        if (p->pid != pid) continue;
        memset(stats, 0, sizeof *stats);
        stats->gpuUtilization = p->sm;
        stats->maxMemoryUsage = p->memory;
        stats->startTime = g->since;
        stats->isRunning = 1;
        return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t model_nvmlDeviceGetAPIRestriction(const struct gpu *g, nvmlRestrictedAPI_t type, nvmlEnableState_t *restricted) {
    NEED(restricted && type < NVML_RESTRICTED_API_COUNT);
    *restricted = NVML_FEATURE_ENABLED; /* only root may */
    return NVML_SUCCESS;
}

/* Setters, which are for root. */

static nvmlReturn_t change_flag(const struct gpu *g, const char *key, nvmlEnableState_t value) {
    NEED(value == NVML_FEATURE_DISABLED || value == NVML_FEATURE_ENABLED);
    return state_change(g, &(struct change){key, value}, 1);
}

nvmlReturn_t model_nvmlDeviceSetPersistenceMode(const struct gpu *g, nvmlEnableState_t mode) { return change_flag(g, "persistence", mode); }

nvmlReturn_t model_nvmlDeviceSetAccountingMode(const struct gpu *g, nvmlEnableState_t mode) { return change_flag(g, "accounting", mode); }

nvmlReturn_t model_nvmlDeviceSetComputeMode(const struct gpu *g, nvmlComputeMode_t mode) {
    NEED(mode < NVML_COMPUTEMODE_COUNT);
    return state_change(g, &(struct change){"compute_mode", mode}, 1);
}

/* The GPU takes no more power than that from now on; what it has taken until now
 * is counted. */
nvmlReturn_t model_nvmlDeviceSetPowerManagementLimit(const struct gpu *g, unsigned int limit) {
    SUPPORT(g->power_max);
    NEED(limit >= g->power_min && limit <= g->power_max);
    const struct change changes[] = {
        {"power_limit", limit},
        {"power", g->power < limit ? g->power : limit},
        {"energy", energy_of(g)},
        {"violation_power", violation_power_of(g)},
        {"violation_thermal", violation_thermal_of(g)},
        {"since", g->since ? now_us() : 0},
    };
    return state_change(g, changes, sizeof changes / sizeof *changes);
}

nvmlReturn_t model_nvmlDeviceSetPowerManagementLimit_v2(const struct gpu *g, nvmlPowerValue_v2_t *value) {
    NEED(value);
    VERSION(value, nvmlPowerValue_v2);
    SUPPORT(value->powerScope == NVML_POWER_SCOPE_GPU);
    return model_nvmlDeviceSetPowerManagementLimit(g, value->powerValueMw);
}
