/* Start-up and what holds for the whole machine. */
#include "state.h"

#include <stddef.h>

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

EXPORT nvmlReturn_t nvmlInit(void) { return state_init(); }
EXPORT nvmlReturn_t nvmlInit_v2(void) { return state_init(); }

/* The flags (no GPUs, no attach) change nothing that the fake does. */
EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    const unsigned int known = NVML_INIT_FLAG_NO_GPUS | NVML_INIT_FLAG_NO_ATTACH;
    return flags & ~known ? NVML_ERROR_INVALID_ARGUMENT : state_init();
}

EXPORT nvmlReturn_t nvmlShutdown(void) { return state_shutdown(); }

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    struct machine m;
    nvmlReturn_t r = state_machine(&m);
    return r ? r : copy_text(version, length, m.driver);
}

EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length) {
    struct machine m;
    nvmlReturn_t r = state_machine(&m);
    return r ? r : copy_text(version, length, m.nvml);
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    struct machine m;
    nvmlReturn_t r = state_machine(&m);
    if (r) return r;
    if (!version) return NVML_ERROR_INVALID_ARGUMENT;
    *version = m.cuda;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

/* The one function that works before nvmlInit. */
EXPORT const char *nvmlErrorString(nvmlReturn_t result) {
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
