/* Values by number: the same state once more, for those who ask for many at a
 * time. */
#include "state.h"

/* field finds a value. The ECC counters of the header are by location; the
 * model has device memory (DRAM) and, as its SRAM, the L2 cache. */
static nvmlReturn_t field(const struct gpu *g, unsigned int id, unsigned int scope, unsigned long long *value) {
#define VALUE(field, has, what) case field: SUPPORT(has); *value = (what); return NVML_SUCCESS;
#define ECC(field, what) VALUE(field, g->ecc, what)
/* By location, as it was before Ampere. */
#define PLACE(field, what) VALUE(field, g->ecc && g->architecture < NVML_DEVICE_ARCH_AMPERE, what)
#define REMAP(field, what) VALUE(field, g->ecc && g->architecture >= NVML_DEVICE_ARCH_AMPERE, what)
#define RETIRE(field, what) VALUE(field, g->ecc && g->architecture < NVML_DEVICE_ARCH_AMPERE, what)
/* A distance to the highest temperature, below zero where it is behind that. */
#define TLIMIT(field, limit) VALUE(field, has_tlimit(g) && (limit), g->temperature_max - (limit))
    NEED(id);
    switch (id) {
    ECC(NVML_FI_DEV_ECC_CURRENT, 1)
    ECC(NVML_FI_DEV_ECC_PENDING, 1)
    ECC(NVML_FI_DEV_ECC_SBE_VOL_TOTAL, sum(g->ecc_dram_corrected_volatile, g->ecc_sram_corrected_volatile))
    ECC(NVML_FI_DEV_ECC_DBE_VOL_TOTAL, sum(g->ecc_dram_uncorrected_volatile, g->ecc_sram_uncorrected_volatile))
    ECC(NVML_FI_DEV_ECC_SBE_AGG_TOTAL, sum(g->ecc_dram_corrected_aggregate, g->ecc_sram_corrected_aggregate))
    ECC(NVML_FI_DEV_ECC_DBE_AGG_TOTAL, sum(g->ecc_dram_uncorrected_aggregate, g->ecc_sram_uncorrected_aggregate))
    PLACE(NVML_FI_DEV_ECC_SBE_VOL_L2, g->ecc_sram_corrected_volatile)
    PLACE(NVML_FI_DEV_ECC_DBE_VOL_L2, g->ecc_sram_uncorrected_volatile)
    PLACE(NVML_FI_DEV_ECC_SBE_VOL_DEV, g->ecc_dram_corrected_volatile)
    PLACE(NVML_FI_DEV_ECC_DBE_VOL_DEV, g->ecc_dram_uncorrected_volatile)
    PLACE(NVML_FI_DEV_ECC_SBE_AGG_L2, g->ecc_sram_corrected_aggregate)
    PLACE(NVML_FI_DEV_ECC_DBE_AGG_L2, g->ecc_sram_uncorrected_aggregate)
    PLACE(NVML_FI_DEV_ECC_SBE_AGG_DEV, g->ecc_dram_corrected_aggregate)
    PLACE(NVML_FI_DEV_ECC_DBE_AGG_DEV, g->ecc_dram_uncorrected_aggregate)
    RETIRE(NVML_FI_DEV_RETIRED_SBE, g->retired_single)
    RETIRE(NVML_FI_DEV_RETIRED_DBE, g->retired_double)
    RETIRE(NVML_FI_DEV_RETIRED_PENDING, g->retired_pending)
    REMAP(NVML_FI_DEV_REMAPPED_COR, g->remap_corrected)
    REMAP(NVML_FI_DEV_REMAPPED_UNC, g->remap_uncorrected)
    REMAP(NVML_FI_DEV_REMAPPED_PENDING, g->remap_pending)
    REMAP(NVML_FI_DEV_REMAPPED_FAILURE, g->remap_failed)
    VALUE(NVML_FI_DEV_MEMORY_TEMP, g->temperature_memory, g->temperature_memory)
    VALUE(NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, g->architecture >= NVML_DEVICE_ARCH_VOLTA, counter_of(g, ENERGY))
    VALUE(NVML_FI_DEV_ENERGY, g->architecture >= NVML_DEVICE_ARCH_VOLTA, counter_of(g, ENERGY))
    VALUE(NVML_FI_DEV_POWER_AVERAGE, g->power && g->architecture >= NVML_DEVICE_ARCH_ADA, g->power)
    VALUE(NVML_FI_DEV_POWER_INSTANT, g->power, g->power)
    VALUE(NVML_FI_DEV_POWER_MIN_LIMIT, g->power_max, g->power_min)
    VALUE(NVML_FI_DEV_POWER_MAX_LIMIT, g->power_max, g->power_max)
    VALUE(NVML_FI_DEV_POWER_DEFAULT_LIMIT, g->power_default, g->power_default)
    VALUE(NVML_FI_DEV_POWER_CURRENT_LIMIT, g->power_limit, g->power_limit)
    VALUE(NVML_FI_DEV_POWER_REQUESTED_LIMIT, g->power_limit, g->power_limit)
    VALUE(NVML_FI_DEV_PERF_POLICY_POWER, 1, counter_of(g, CAPPED))
    VALUE(NVML_FI_DEV_PERF_POLICY_THERMAL, 1, counter_of(g, HOT))
    VALUE(NVML_FI_DEV_PERF_POLICY_SYNC_BOOST, 1, 0)
    VALUE(NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT, 1, 0)
    VALUE(NVML_FI_DEV_PERF_POLICY_LOW_UTILIZATION, 1, 0)
    VALUE(NVML_FI_DEV_PERF_POLICY_RELIABILITY, 1, 0)
    VALUE(NVML_FI_DEV_PERF_POLICY_TOTAL_APP_CLOCKS, 1, 0)
    VALUE(NVML_FI_DEV_PERF_POLICY_TOTAL_BASE_CLOCKS, 1, 0)
    VALUE(NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN, 1, counter_of(g, HOT))
    VALUE(NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN, 1, 0)
    VALUE(NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN, 1, 0)
    TLIMIT(NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT, g->temperature_shutdown)
    TLIMIT(NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT, g->temperature_slowdown)
    TLIMIT(NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT, g->temperature_max)
    TLIMIT(NVML_FI_DEV_TEMPERATURE_MEM_MAX_TLIMIT, g->temperature_memory ? g->temperature_max : 0)
    VALUE(NVML_FI_DEV_PCIE_REPLAY_COUNTER, 1, g->pcie_replays)
    VALUE(NVML_FI_DEV_PCIE_REPLAY_ROLLOVER_COUNTER, 1, 0)
    VALUE(NVML_FI_DEV_NVLINK_LINK_COUNT, g->nvlinks, g->nvlinks)
    VALUE(NVML_FI_DEV_NVLINK_GET_STATE, scope < g->nvlinks, NVML_FEATURE_ENABLED)
    VALUE(NVML_FI_DEV_NVLINK_GET_VERSION, scope < g->nvlinks, g->nvlink_version)
    VALUE(NVML_FI_DEV_NVSWITCH_CONNECTED_LINK_COUNT, 1, g->nvlinks)
    VALUE(NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, 1, g->recovery_action)
    VALUE(NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED, since_hopper(g), 1)
    VALUE(NVML_FI_DEV_IS_MIG_MODE_INDEPENDENT_MIG_QUERY_CAPABLE, since_hopper(g), 1)
    default: break;
    }
    /* Nothing goes wrong on the link, and nobody has asked for a reset. */
    SUPPORT(since_hopper(g) && ((id >= NVML_FI_DEV_PCIE_L0_TO_RECOVERY_COUNTER && id <= NVML_FI_DEV_PCIE_COUNT_LANE_ERROR &&
                                 (id < NVML_FI_DEV_C2C_LINK_COUNT || id > NVML_FI_DEV_C2C_LINK_GET_MAX_BW)) ||
                                id == NVML_FI_DEV_PCIE_COUNT_TX_BYTES || id == NVML_FI_DEV_PCIE_COUNT_RX_BYTES ||
                                (id >= NVML_FI_DEV_RESET_STATUS && id <= NVML_FI_DEV_PCIE_INBOUND_ATOMICS_MASK)));
    *value = 0;
    return NVML_SUCCESS;
}

/* type_of is the type of a value: that of a count, unless it is small. */
static nvmlValueType_t type_of(unsigned int id) {
    if (id >= NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT && id <= NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT) return NVML_VALUE_TYPE_SIGNED_INT;
    if (id >= NVML_FI_DEV_PCIE_L0_TO_RECOVERY_COUNTER && id <= NVML_FI_DEV_GET_GPU_RECOVERY_ACTION && id != NVML_FI_DEV_ENERGY)
        return NVML_VALUE_TYPE_UNSIGNED_INT;
    switch (id) {
    case NVML_FI_DEV_MEMORY_TEMP:
    case NVML_FI_DEV_PCIE_REPLAY_COUNTER:
    case NVML_FI_DEV_PCIE_REPLAY_ROLLOVER_COUNTER: return NVML_VALUE_TYPE_UNSIGNED_INT;
    default: return NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
    }
}

nvmlReturn_t model_nvmlDeviceGetFieldValues(const struct gpu *g, int count, nvmlFieldValue_t *values) {
    NEED(values && count > 0);
    long long now = (long long)now_us();
    for (nvmlFieldValue_t *v = values; v < values + count; v++) {
        unsigned long long value = 0;
        v->timestamp = now;
        v->latencyUsec = 0;
        v->valueType = type_of(v->fieldId);
        v->nvmlReturn = field(g, v->fieldId, v->scopeId, &value);
        v->value.ullVal = v->valueType == NVML_VALUE_TYPE_SIGNED_INT ? (unsigned int)value : value;
    }
    return NVML_SUCCESS;
}
