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

/* Those that run, and none while the mode is disabled; the fake forgets who has
 * ended. */
static unsigned int accounted(const struct gpu *g) { return g->accounting ? g->process_count : 0; }

nvmlReturn_t model_nvmlDeviceGetAccountingPids(const struct gpu *g, unsigned int *count, unsigned int *pids) {
    NEED(count);
    unsigned int have = accounted(g);
    nvmlReturn_t r = give_count(count, pids, have);
    for (unsigned int i = 0; r == NVML_SUCCESS && i < have; i++) pids[i] = g->processes[i].pid;
    return r;
}

nvmlReturn_t model_nvmlDeviceGetAccountingStats(const struct gpu *g, unsigned int pid, nvmlAccountingStats_t *stats) {
    NEED(stats);
    for (const struct process *p = g->processes; p < g->processes + accounted(g); p++) {
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
    SUPPORT(type != NVML_RESTRICTED_API_SET_APPLICATION_CLOCKS || !since_hopper(g));
    *restricted = since_hopper(g) ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED; /* only root may */
    return NVML_SUCCESS;
}

/* Setters, which are for root. */

#define MAKER(key)                                                                                       \
    static unsigned int change_##key(const struct gpu *g, unsigned int value, struct change *changes) { \
        *changes = (struct change){#key, value};                                                         \
        return 1;                                                                                        \
    }
MAKER(persistence)
MAKER(accounting)
MAKER(compute_mode)

nvmlReturn_t model_nvmlDeviceSetPersistenceMode(const struct gpu *g, nvmlEnableState_t mode) {
    NEED(mode == NVML_FEATURE_DISABLED || mode == NVML_FEATURE_ENABLED);
    return state_change(g, change_persistence, mode);
}

nvmlReturn_t model_nvmlDeviceSetAccountingMode(const struct gpu *g, nvmlEnableState_t mode) {
    NEED(mode == NVML_FEATURE_DISABLED || mode == NVML_FEATURE_ENABLED);
    return state_change(g, change_accounting, mode);
}

nvmlReturn_t model_nvmlDeviceSetComputeMode(const struct gpu *g, nvmlComputeMode_t mode) {
    NEED(mode < NVML_COMPUTEMODE_COUNT);
    return state_change(g, change_compute_mode, mode);
}

/* The GPU takes no more power than that from now on; what it takes until all
 * programs see it is counted, as load.go does. */
enum { SETTLE_AHEAD_US = 50000 };

static unsigned int change_power_limit(const struct gpu *g, unsigned int limit, struct change *changes) {
    unsigned long long until = now_us() + SETTLE_AHEAD_US;
    const struct change all[] = {
        {"power_limit", limit},
        {"power", g->power < limit ? g->power : limit},
        {"energy", counter_at(g, ENERGY, until)},
        {"violation_power", counter_at(g, CAPPED, until)},
        {"violation_thermal", counter_at(g, HOT, until)},
        {"since", g->since ? until : 0},
    };
    _Static_assert(sizeof all / sizeof *all <= MAX_CHANGES, "changes");
    memcpy(changes, all, sizeof all);
    return sizeof all / sizeof *all;
}

nvmlReturn_t model_nvmlDeviceSetPowerManagementLimit(const struct gpu *g, unsigned int limit) {
    SUPPORT(g->power_max);
    NEED(limit >= g->power_min && limit <= g->power_max);
    return state_change(g, change_power_limit, limit);
}

nvmlReturn_t model_nvmlDeviceSetPowerManagementLimit_v2(const struct gpu *g, nvmlPowerValue_v2_t *value) {
    NEED(value);
    VERSION(value, nvmlPowerValue_v2);
    SUPPORT(value->powerScope == NVML_POWER_SCOPE_GPU);
    return model_nvmlDeviceSetPowerManagementLimit(g, value->powerValueMw);
}
