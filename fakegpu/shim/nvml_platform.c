/* What joins a GPU to the machine and to other GPUs, and the memory of the board
 * that tells what it is. */
#include "state.h"

#include <string.h>

/* The keys count from 1 on; 0 is for models that do not tell. */
nvmlReturn_t model_nvmlDeviceGetAddressingMode(const struct gpu *g, nvmlDeviceAddressingMode_t *mode) {
    NEED(mode);
    VERSION(mode, nvmlDeviceAddressingMode_v1);
    SUPPORT(g->addressing);
    mode->value = (unsigned int)g->addressing - 1;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetC2cModeInfoV(const struct gpu *g, nvmlC2cModeInfo_v1_t *info) {
    NEED(info);
    SUPPORT(g->c2c);
    info->isC2cEnabled = (unsigned int)g->c2c - 1;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetInforomImageVersion(const struct gpu *g, char *version, unsigned int length) {
    NEED(version);
    SUPPORT(g->inforom_image[0]);
    return give_text(version, length, g->inforom_image);
}

nvmlReturn_t model_nvmlDeviceGetInforomVersion(const struct gpu *g, nvmlInforomObject_t object, char *version, unsigned int length) {
    NEED(version && object < NVML_INFOROM_COUNT);
    const char *text = object == NVML_INFOROM_ECC ? g->inforom_ecc : object == NVML_INFOROM_OEM ? g->inforom_oem : "";
    SUPPORT(*text);
    return give_text(version, length, text);
}

/* It is never damaged. */
nvmlReturn_t model_nvmlDeviceValidateInforom(const struct gpu *g) {
    SUPPORT(g->inforom_image[0]);
    return NVML_SUCCESS;
}

GETTER(nvmlDeviceGetInforomConfigurationChecksum, unsigned int, g->inforom_image[0] && since_hopper(g), 0)

/* Nothing has been written into it yet. */
nvmlReturn_t model_nvmlDeviceGetLastBBXFlushTime(const struct gpu *g, unsigned long long *timestamp, unsigned long *duration_us) {
    NEED(timestamp && duration_us);
    SUPPORT(since_hopper(g));
    return NVML_ERROR_NOT_READY;
}

/* A machine whose processors use the memory of its GPUs as theirs has the first. */
nvmlReturn_t model_nvmlDeviceGetCapabilities(const struct gpu *g, nvmlDeviceCapabilities_t *capabilities) {
    NEED(capabilities);
    VERSION(capabilities, nvmlDeviceCapabilities_v1);
    SUPPORT(since_hopper(g));
    capabilities->capMask = 0;
    return NVML_SUCCESS;
}

/* The one machine is in no rack. Both versions have one size. */
nvmlReturn_t model_nvmlDeviceGetPlatformInfo(const struct gpu *g, nvmlPlatformInfo_t *info) {
    NEED(info);
    unsigned int version = info->version;
    if (version != nvmlPlatformInfo_v1 && version != nvmlPlatformInfo_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    SUPPORT(since_hopper(g));
    memset(info, 0, sizeof *info);
    info->version = version;
    info->hostId = 1;
    info->moduleId = (unsigned char)g->module;
    return NVML_SUCCESS;
}

/* Nothing is confidential. */

nvmlReturn_t model_nvmlDeviceGetConfComputeMemSizeInfo(const struct gpu *g, nvmlConfComputeMemSizeInfo_t *info) {
    NEED(info);
    SUPPORT(since_hopper(g));
    info->protectedMemSizeKib = 0;
    info->unprotectedMemSizeKib = (g->memory - g->memory_reserved) / 1024;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetConfComputeProtectedMemoryUsage(const struct gpu *g, nvmlMemory_t *memory) {
    NEED(memory);
    memset(memory, 0, sizeof *memory);
    return NVML_SUCCESS;
}

/* The fabric is that of one machine: it has no number of a cluster. */
nvmlReturn_t model_nvmlDeviceGetGpuFabricInfo(const struct gpu *g, nvmlGpuFabricInfo_t *info) {
    NEED(info);
    memset(info, 0, sizeof *info);
    info->state = (nvmlGpuFabricState_t)g->fabric;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlDeviceGetGpuFabricInfoV(const struct gpu *g, nvmlGpuFabricInfoV_t *info) {
    NEED(info);
    unsigned int version = info->version;
    size_t size = version == nvmlGpuFabricInfo_v2 ? sizeof(nvmlGpuFabricInfo_v2_t) : sizeof(nvmlGpuFabricInfo_v3_t);
    if (version != nvmlGpuFabricInfo_v2 && version != nvmlGpuFabricInfo_v3) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    memset(info, 0, size);
    info->version = version;
    info->state = (nvmlGpuFabricState_t)g->fabric;
    if (version == nvmlGpuFabricInfo_v3 && g->fabric == NVML_GPU_FABRIC_STATE_COMPLETED) info->healthSummary = NVML_GPU_FABRIC_HEALTH_SUMMARY_HEALTHY;
    return NVML_SUCCESS;
}
