/* The whole machine. */
#include "state.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The sizes of NVML's ABI: a compiler or header that disagrees must not get
 * as far as a client. */
_Static_assert(sizeof(nvmlPciInfo_t) == 68, "nvmlPciInfo_t");
_Static_assert(sizeof(nvmlMemory_t) == 24, "nvmlMemory_t");
_Static_assert(sizeof(nvmlMemory_v2_t) == 40, "nvmlMemory_v2_t");
_Static_assert(nvmlMemory_v2 == 0x02000028, "nvmlMemory_v2");
_Static_assert(sizeof(nvmlProcessInfo_v1_t) == 16, "nvmlProcessInfo_v1_t");
_Static_assert(sizeof(nvmlProcessInfo_v2_t) == 24, "nvmlProcessInfo_v2_t");
_Static_assert(sizeof(nvmlProcessInfo_t) == 24, "nvmlProcessInfo_t");
_Static_assert(sizeof(nvmlEventData_t) == 32, "nvmlEventData_t");
_Static_assert(sizeof(nvmlFieldValue_t) == 40, "nvmlFieldValue_t");

nvmlReturn_t model_nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    return give_text(version, length, state_machine()->driver);
}

nvmlReturn_t model_nvmlSystemGetNVMLVersion(char *version, unsigned int length) {
    return give_text(version, length, state_machine()->nvml);
}

nvmlReturn_t model_nvmlSystemGetCudaDriverVersion_v2(int *version) {
    NEED(version);
    *version = (int)state_machine()->cuda;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlSystemGetCudaDriverVersion(int *version) { return model_nvmlSystemGetCudaDriverVersion_v2(version); }

/* The branch is named after its major number: 580.95.05 is of r580. */
nvmlReturn_t model_nvmlSystemGetDriverBranch(nvmlSystemDriverBranchInfo_t *info, unsigned int length) {
    NEED(info);
    VERSION(info, nvmlSystemDriverBranchInfo_v1);
    char branch[TEXT + 1];
    snprintf(branch, sizeof branch, "r%s", state_machine()->driver);
    branch[strcspn(branch, ".")] = 0;
    return give_text(info->branch, length < sizeof info->branch ? length : sizeof info->branch, branch);
}

nvmlReturn_t model_nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length) {
    NEED(name && length);
    const struct machine *m = state_machine();
    for (unsigned int i = 0; i < m->gpu_count; i++) {
        for (unsigned int j = 0; j < m->gpus[i].process_count; j++) {
            const struct process *p = &m->gpus[i].processes[j];
            if (p->pid != pid) continue;
            snprintf(name, length, "%s", p->name); /* a name that is too long is cut, as the header has it */
            return NVML_SUCCESS;
        }
    }
    return pid ? NVML_ERROR_NO_DATA : NVML_ERROR_NOT_FOUND; /* as real ones answer */
}

/* Nothing is confidential, and no link to a switch is slowed down. */
nvmlReturn_t model_nvmlSystemGetConfComputeState(nvmlConfComputeSystemState_t *state) {
    NEED(state);
    memset(state, 0, sizeof *state);
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlSystemGetConfComputeGpusReadyState(unsigned int *ready) {
    NEED(ready);
    *ready = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlSystemGetConfComputeSettings(nvmlSystemConfComputeSettings_t *settings) {
    NEED(settings);
    VERSION(settings, nvmlSystemConfComputeSettings_v1);
    memset(settings, 0, sizeof *settings);
    settings->version = nvmlSystemConfComputeSettings_v1;
    return NVML_SUCCESS;
}

/* Which a GPU since Hopper could be. */
nvmlReturn_t model_nvmlSystemGetConfComputeCapabilities(nvmlConfComputeSystemCaps_t *capabilities) {
    NEED(capabilities);
    memset(capabilities, 0, sizeof *capabilities);
    const struct machine *m = state_machine();
    for (unsigned int i = 0; i < m->gpu_count; i++) capabilities->gpusCaps |= since_hopper(&m->gpus[i]) ? NVML_CC_SYSTEM_GPUS_CC_CAPABLE : 0;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlSystemGetNvlinkBwMode(unsigned int *mode) {
    NEED(mode);
    *mode = 0;
    return NVML_SUCCESS;
}

/* No S-class units, host interface cards or excluded GPUs. */
nvmlReturn_t model_nvmlUnitGetCount(unsigned int *count) { return give_count(count, count, 0); }

nvmlReturn_t model_nvmlUnitGetHandleByIndex(unsigned int index, nvmlUnit_t *unit) {
    return NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t model_nvmlSystemGetHicVersion(unsigned int *count, nvmlHwbcEntry_t *entries) {
    NEED(count && entries);
    *count = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlGetExcludedDeviceCount(unsigned int *count) { return give_count(count, count, 0); }

nvmlReturn_t model_nvmlGetExcludedDeviceInfoByIndex(unsigned int index, nvmlExcludedDeviceInfo_t *info) {
    return NVML_ERROR_INVALID_ARGUMENT;
}

/* The one function that works before nvmlInit. The texts are those of NVML, as
 * pynvml and nvidia-smi show them. */
const char *model_nvmlErrorString(nvmlReturn_t result) {
    switch (result) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_ALREADY_INITIALIZED: return "Already Initialized";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_INSUFFICIENT_POWER: return "Insufficient External Power";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    case NVML_ERROR_IRQ_ISSUE: return "Interrupt Request Issue";
    case NVML_ERROR_LIBRARY_NOT_FOUND: return "NVML Shared Library Not Found";
    case NVML_ERROR_FUNCTION_NOT_FOUND: return "Function Not Found";
    case NVML_ERROR_CORRUPTED_INFOROM: return "Corrupted infoROM";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_RESET_REQUIRED: return "GPU requires restart";
    case NVML_ERROR_OPERATING_SYSTEM: return "The operating system has blocked the request.";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case NVML_ERROR_IN_USE: return "In use by another client";
    case NVML_ERROR_MEMORY: return "Insufficient Memory";
    case NVML_ERROR_NO_DATA: return "No data";
    case NVML_ERROR_VGPU_ECC_NOT_SUPPORTED: return "The requested vgpu operation is not available on target device, because ECC is enabled";
    case NVML_ERROR_INSUFFICIENT_RESOURCES: return "Insufficient Resources";
    case NVML_ERROR_FREQ_NOT_SUPPORTED: return "Frequency not supported";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
    case NVML_ERROR_DEPRECATED: return "Deprecated";
    case NVML_ERROR_NOT_READY: return "Not Ready";
    case NVML_ERROR_GPU_NOT_FOUND: return "GPU not found";
    case NVML_ERROR_INVALID_STATE: return "Invalid state";
    case NVML_ERROR_RESET_TYPE_NOT_SUPPORTED: return "Reset type not supported";
    case NVML_ERROR_UNKNOWN: break;
    }
    return "Unknown Error";
}
