/* A healthy machine. */
#include "client.h"

#include <sys/wait.h>

static void before_init(const char *uuid) {
    nvmlDevice_t device = {0};
    unsigned int n = 0;
    int cuda = 0;
    char text[96];
    nvmlMemory_t memory;
    nvmlPciInfo_t pci;
    WANT(UNINITIALIZED, nvmlDeviceGetCount_v2, &n);
    WANT(UNINITIALIZED, nvmlDeviceGetHandleByIndex_v2, 0, &device);
    WANT(UNINITIALIZED, nvmlDeviceGetHandleByUUID, uuid, &device);
    WANT(UNINITIALIZED, nvmlDeviceGetHandleByUUID, NULL, NULL);
    WANT(UNINITIALIZED, nvmlDeviceGetHandleByPciBusId_v2, "no address", &device);
    WANT(UNINITIALIZED, nvmlDeviceGetUUID, device, text, sizeof text);
    WANT(UNINITIALIZED, nvmlDeviceGetMemoryInfo, device, &memory);
    WANT(UNINITIALIZED, nvmlDeviceGetPciInfo_v3, device, &pci);
    WANT(UNINITIALIZED, nvmlSystemGetDriverVersion, text, sizeof text);
    WANT(UNINITIALIZED, nvmlSystemGetCudaDriverVersion_v2, &cuda);
    WANT(UNINITIALIZED, nvmlDeviceGetPowerMizerMode_v1, device, NULL); /* which is not modelled */
    want(SHUTDOWN(), NVML_ERROR_UNINITIALIZED, "nvmlShutdown() before nvmlInit");
    want(strcmp(CALL(nvmlErrorString, NVML_ERROR_UNINITIALIZED), "Uninitialized"), 0, "nvmlErrorString before nvmlInit");
}

static void handles(const char *uuid, unsigned int count) {
    nvmlDevice_t device = {0}, same = {0}, other = {0};
    unsigned int n = 0;
    OK(nvmlDeviceGetCount_v2, &n);
    want(n, count, "count");
    OK(nvmlDeviceGetCount, &n);
    want(n, count, "count, version 1");
    WANT(INVALID_ARGUMENT, nvmlDeviceGetCount_v2, NULL);

    OK(nvmlDeviceGetHandleByIndex_v2, 0, &device);
    OK(nvmlDeviceGetHandleByIndex, 0, &same);
    want(same.handle == device.handle, 1, "one GPU has one handle");
    OK(nvmlDeviceGetHandleByIndex_v2, count - 1, &other);
    WANT(INVALID_ARGUMENT, nvmlDeviceGetHandleByIndex_v2, count, &other);
    WANT(INVALID_ARGUMENT, nvmlDeviceGetHandleByIndex_v2, 0xffffffff, &other);
    WANT(INVALID_ARGUMENT, nvmlDeviceGetHandleByIndex_v2, 0, NULL);

    OK(nvmlDeviceGetHandleByUUID, uuid, &same);
    want(same.handle == device.handle, 1, "the UUID names the GPU of index 0");
    WANT(NOT_FOUND, nvmlDeviceGetHandleByUUID, "GPU-00000000-0000-0000-0000-000000000000", &other);
    WANT(NOT_FOUND, nvmlDeviceGetHandleByUUID, "", &other);
    WANT(INVALID_ARGUMENT, nvmlDeviceGetHandleByUUID, NULL, &other);

    const char *addresses[] = {"00000000:01:00.0", "0000:01:00.0", "0:1:0", "01:00.0"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        same.handle = NULL;
        OK(nvmlDeviceGetHandleByPciBusId_v2, addresses[i], &same);
        want(same.handle == device.handle, 1, addresses[i]);
    }
    WANT(NOT_FOUND, nvmlDeviceGetHandleByPciBusId_v2, "00000000:FF:00.0", &other);
    WANT(NOT_FOUND, nvmlDeviceGetHandleByPciBusId_v2, "00000001:01:00.0", &other);
    WANT(INVALID_ARGUMENT, nvmlDeviceGetHandleByPciBusId_v2, "bus 1", &other);
    WANT(INVALID_ARGUMENT, nvmlDeviceGetHandleByPciBusId_v2, "00000000:01:00.0 ", &other);

    char text[96];
    nvmlDevice_t wrong = {0};
    WANT(INVALID_ARGUMENT, nvmlDeviceGetUUID, wrong, text, sizeof text);
    wrong.handle = (struct nvmlDevice_st *)&wrong;
    WANT(INVALID_ARGUMENT, nvmlDeviceGetUUID, wrong, text, sizeof text);
}

static void buffers(const char *uuid) {
    nvmlDevice_t device = {0};
    char text[96];
    unsigned int length = (unsigned int)strlen(uuid);
    OK(nvmlDeviceGetHandleByIndex_v2, 0, &device);
    /* Exactly as large as needed, so that the sanitizer sees one byte more. */
    char *fits = malloc(length + 1);
    OK(nvmlDeviceGetUUID, device, fits, length + 1);
    want(strcmp(fits, uuid), 0, "the UUID");
    memset(fits, 'x', length);
    WANT(INSUFFICIENT_SIZE, nvmlDeviceGetUUID, device, fits, length);
    want(fits[0], 'x', "a buffer that is too small is left alone");
    free(fits);
    WANT(INSUFFICIENT_SIZE, nvmlDeviceGetName, device, text, 0);
    WANT(INSUFFICIENT_SIZE, nvmlDeviceGetName, device, text, 4);
    WANT(INSUFFICIENT_SIZE, nvmlDeviceGetSerial, device, text, 4);
    WANT(INSUFFICIENT_SIZE, nvmlSystemGetDriverVersion, text, 4);
    WANT(INSUFFICIENT_SIZE, nvmlSystemGetNVMLVersion, text, 4);
    WANT(INVALID_ARGUMENT, nvmlDeviceGetUUID, device, NULL, 96);
    OK(nvmlSystemGetDriverVersion, text, sizeof text);
}

static void structs(void) {
    nvmlDevice_t device = {0};
    OK(nvmlDeviceGetHandleByIndex_v2, 0, &device);
    nvmlMemory_t one;
    nvmlMemory_v2_t two = {.version = nvmlMemory_v2};
    OK(nvmlDeviceGetMemoryInfo, device, &one);
    OK(nvmlDeviceGetMemoryInfo_v2, device, &two);
    want((long long)one.total, (long long)two.total, "total memory in both versions");
    want((long long)one.used, (long long)(two.used + two.reserved), "version 1 counts reserved memory as used");
    want((long long)(one.used + one.free), (long long)one.total, "memory adds up");
    two.version = 0;
    WANT(ARGUMENT_VERSION_MISMATCH, nvmlDeviceGetMemoryInfo_v2, device, &two);
    two.version = nvmlMemory_v2 + (1 << 24);
    WANT(ARGUMENT_VERSION_MISMATCH, nvmlDeviceGetMemoryInfo_v2, device, &two);
    nvmlTemperature_t temperature = {.version = nvmlTemperature_v1, .sensorType = NVML_TEMPERATURE_GPU};
    OK(nvmlDeviceGetTemperatureV, device, &temperature);
    temperature.version = 7;
    WANT(ARGUMENT_VERSION_MISMATCH, nvmlDeviceGetTemperatureV, device, &temperature);

    /* The older struct ends before busId: its callers have no room for more. */
    size_t old = __builtin_offsetof(nvmlPciInfo_t, busId);
    nvmlPciInfo_t *pci = malloc(old);
    nvmlPciInfo_t all;
    OK(nvmlDeviceGetPciInfo_v2, device, pci);
    OK(nvmlDeviceGetPciInfo, device, pci);
    OK(nvmlDeviceGetPciInfo_v3, device, &all);
    want(memcmp(pci, &all, old), 0, "PCI info in all versions");
    want(strcmp(all.busIdLegacy, "0000:01:00.0"), 0, "busIdLegacy has a domain of 4 digits");
    want(strcmp(all.busId, "00000000:01:00.0"), 0, "busId has a domain of 8 digits");
    free(pci);

    unsigned int n = 0;
    OK(nvmlDeviceGetComputeRunningProcesses, device, &n, NULL);
    OK(nvmlDeviceGetComputeRunningProcesses_v2, device, &n, NULL);
    OK(nvmlDeviceGetComputeRunningProcesses_v3, device, &n, NULL);
    want(n, 0, "processes of a size probe");
    nvmlProcessInfo_t info;
    n = 1;
    OK(nvmlDeviceGetComputeRunningProcesses_v3, device, &n, &info);
    want(n, 0, "processes");
    WANT(INVALID_ARGUMENT, nvmlDeviceGetComputeRunningProcesses_v3, device, NULL, NULL);
    WANT(NOT_SUPPORTED, nvmlDeviceGetFanSpeed, device, &n);
    WANT(NOT_SUPPORTED, nvmlDeviceGetPowerMizerMode_v1, device, NULL);
    WANT(INVALID_ARGUMENT, nvmlDeviceGetPlatformInfo, device, NULL);
    WANT(NOT_SUPPORTED, nvmlDeviceGetMigMode, device, &n, &n);
    n = 0;
    WANT(INVALID_ARGUMENT, nvmlDeviceGetAccountingPids, device, NULL, NULL);
    OK(nvmlDeviceGetAccountingPids, device, &n, NULL); /* as of real ones while the mode is disabled */
    want(n, 0, "processes that are accounted for");
    WANT(INVALID_ARGUMENT, nvmlDeviceGetAccountingBufferSize, device, NULL);
    OK(nvmlDeviceGetAccountingBufferSize, device, &n);
    nvmlHwbcEntry_t card;
    WANT(INVALID_ARGUMENT, nvmlSystemGetHicVersion, NULL, &card);
    WANT(INVALID_ARGUMENT, nvmlSystemGetHicVersion, &n, NULL);
    n = 1;
    OK(nvmlSystemGetHicVersion, &n, &card);
    want(n, 0, "host interface cards");
    for (unsigned int level = 0; level <= 60; level++) {
        n = 0;
        OK(nvmlDeviceGetTopologyNearestGpus, device, (nvmlGpuTopologyLevel_t)level, &n, NULL);
        if (level % 10) want(n, 0, "nearest GPUs at a level that there is not");
    }
}

/* in_child runs the checks in a child that fork made. */
static void in_child(const char *uuid, unsigned int count) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        failures = 0;
        handles(uuid, count);
        want(SHUTDOWN(), NVML_SUCCESS, "nvmlShutdown() in a child");
        fflush(stdout);
        _exit(failures != 0);
    }
    int status = -1;
    want(waitpid(child, &status, 0), child, "waitpid");
    want(status, 0, "status of the child");
}

void check(const char *uuid, unsigned int count) {
    before_init(uuid);
    INIT();
    handles(uuid, count);
    buffers(uuid);
    structs();
    in_child(uuid, count);

    unsigned int n = 0;
    INIT();
    OK(nvmlInitWithFlags, NVML_INIT_FLAG_NO_GPUS);
    want(SHUTDOWN(), NVML_SUCCESS, "nvmlShutdown(), first of three");
    want(SHUTDOWN(), NVML_SUCCESS, "nvmlShutdown(), second of three");
    OK(nvmlDeviceGetCount_v2, &n);
    want(SHUTDOWN(), NVML_SUCCESS, "nvmlShutdown(), third of three");
    before_init(uuid);
}
