/* What changes while a GPU works: memory, load, temperature, power, processes. */
#include "state.h"

#include <string.h>

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    if (r) return r;
    if (!memory) return NVML_ERROR_INVALID_ARGUMENT;
    memory->total = d.memory;
    memory->used = d.memory_used + d.memory_reserved; /* version 1 does not tell them apart */
    memory->free = d.memory - memory->used;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    if (r) return r;
    if (!memory) return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    memory->total = d.memory;
    memory->reserved = d.memory_reserved;
    memory->used = d.memory_used;
    memory->free = d.memory - d.memory_used - d.memory_reserved;
    return NVML_SUCCESS;
}

/* An idle GPU: nothing runs on a fake one. */
EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    if (r) return r;
    if (!utilization) return NVML_ERROR_INVALID_ARGUMENT;
    memset(utilization, 0, sizeof *utilization);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *temperature) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    if (r) return r;
    if (sensor != NVML_TEMPERATURE_GPU || !temperature) return NVML_ERROR_INVALID_ARGUMENT;
    *temperature = d.temperature;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    if (r) return r;
    if (!temperature) return NVML_ERROR_INVALID_ARGUMENT;
    if (temperature->version != nvmlTemperature_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (temperature->sensorType != NVML_TEMPERATURE_GPU) return NVML_ERROR_INVALID_ARGUMENT;
    temperature->temperature = (int)d.temperature;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *power) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    if (r) return r;
    if (!power) return NVML_ERROR_INVALID_ARGUMENT;
    *power = d.power;
    return NVML_SUCCESS;
}

/* no_processes is what all versions of the process list answer: there is
 * nothing to return, which is success for a size probe as well. */
static nvmlReturn_t no_processes(nvmlDevice_t device, unsigned int *count) {
    struct device d;
    nvmlReturn_t r = state_device(device, &d);
    if (r) return r;
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *infos) {
    (void)infos;
    return no_processes(device, count);
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *infos) {
    (void)infos;
    return no_processes(device, count);
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos) {
    (void)infos;
    return no_processes(device, count);
}
