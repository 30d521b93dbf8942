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
    return NVML_ERROR_NOT_FOUND;
}

/* No S-class units, host interface cards or excluded GPUs. */
nvmlReturn_t model_nvmlUnitGetCount(unsigned int *count) { return give_count(count, count, 0); }

nvmlReturn_t model_nvmlUnitGetHandleByIndex(unsigned int index, nvmlUnit_t *unit) {
    return NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t model_nvmlSystemGetHicVersion(unsigned int *count, nvmlHwbcEntry_t *entries) { return give_count(count, entries, 0); }

nvmlReturn_t model_nvmlGetExcludedDeviceCount(unsigned int *count) { return give_count(count, count, 0); }

nvmlReturn_t model_nvmlGetExcludedDeviceInfoByIndex(unsigned int index, nvmlExcludedDeviceInfo_t *info) {
    return NVML_ERROR_INVALID_ARGUMENT;
}

/* The one function that works before nvmlInit. */
const char *model_nvmlErrorString(nvmlReturn_t result) {
    switch (result) {
    case NVML_SUCCESS: return "success";
    case NVML_ERROR_UNINITIALIZED: return "not initialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "invalid argument";
    case NVML_ERROR_NOT_SUPPORTED: return "not supported";
    case NVML_ERROR_NO_PERMISSION: return "no permission";
    case NVML_ERROR_ALREADY_INITIALIZED: return "already initialized";
    case NVML_ERROR_NOT_FOUND: return "not found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "buffer too small";
    case NVML_ERROR_INSUFFICIENT_POWER: return "external power not attached";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "driver not loaded";
    case NVML_ERROR_TIMEOUT: return "timeout";
    case NVML_ERROR_IRQ_ISSUE: return "interrupt problem";
    case NVML_ERROR_LIBRARY_NOT_FOUND: return "library not found";
    case NVML_ERROR_FUNCTION_NOT_FOUND: return "function not found";
    case NVML_ERROR_CORRUPTED_INFOROM: return "infoROM corrupted";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_RESET_REQUIRED: return "GPU needs a reset";
    case NVML_ERROR_OPERATING_SYSTEM: return "blocked by the operating system";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "driver and library versions differ";
    case NVML_ERROR_IN_USE: return "in use";
    case NVML_ERROR_MEMORY: return "insufficient memory";
    case NVML_ERROR_NO_DATA: return "no data";
    case NVML_ERROR_INSUFFICIENT_RESOURCES: return "insufficient resources";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH: return "struct version not supported";
    default: return "unknown error";
    }
}
