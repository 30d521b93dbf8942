/* A client of the fake library in C, for what go-nvml cannot or does not do.
 *
 *   client LIBRARY now|lazy check UUID COUNT    checks the library's answers on healthy T4s
 *   client LIBRARY now|lazy rich                checks lists, events and MIG devices, see TestClientInCOnARichMachine
 *   client LIBRARY now|lazy every NAME...       calls every function before nvmlInit, after it, and for a GPU that gets
 *                                               lost after the file ready.PID is there; NAME@ is about a device
 *   client LIBRARY now|lazy threads             asks from many threads, while others change the state
 *   client LIBRARY now|lazy load DIR...         starts on each state, prints the codes
 *   client LIBRARY now|lazy watch COUNT         prints so many Xids; leaves a file ready.PID when it listens
 *   client LIBRARY now|lazy clocks              prints the supported clocks of the first GPU: memory: graphics...
 *   client LIBRARY now|lazy setter              prints what setting a mode of the first GPU gives
 *   client LIBRARY now|lazy bench               prints what calls cost
 *
 * It prints a line for each answer that is wrong, and then exits with 1. */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *library;
static int failures;

static void want(long long got, long long wanted, const char *what) {
    if (got == wanted) return;
    printf("FAIL: %s: got %lld, want %lld\n", what, got, wanted);
    __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
}

static void *symbol(const char *name) {
    void *s = dlsym(library, name);
    if (!s) {
        printf("FAIL: %s\n", dlerror());
        exit(1);
    }
    return s;
}

/* CALL looks a function up by its name at each call, with the header's type. */
#define CALL(function, ...) (((__typeof__(&function))symbol(#function))(__VA_ARGS__))
#define WANT(code, function, ...) want(CALL(function, __VA_ARGS__), NVML_ERROR_##code, #function "(" #__VA_ARGS__ ")")
#define OK(function, ...) want(CALL(function, __VA_ARGS__), NVML_SUCCESS, #function "(" #__VA_ARGS__ ")")
#define INIT() want(((nvmlReturn_t(*)(void))symbol("nvmlInit_v2"))(), NVML_SUCCESS, "nvmlInit_v2()")
#define SHUTDOWN() (((nvmlReturn_t(*)(void))symbol("nvmlShutdown"))())

/* The library's sleep is this one, so that a test can hold it up. */
static int hold, held;

__attribute__((visibility("default"))) int nanosleep(const struct timespec *time, struct timespec *rest) {
    while (__atomic_load_n(&hold, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&held, 1, __ATOMIC_RELEASE);
        sched_yield();
    }
    return clock_nanosleep(CLOCK_MONOTONIC, 0, time, rest) ? -1 : 0;
}

static void ready(void) {
    char path[4096];
    snprintf(path, sizeof path, "%s/ready.%d", getenv("FAKEGPU_STATE"), (int)getpid());
    fclose(fopen(path, "w"));
}

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

static void check(const char *uuid, unsigned int count) {
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

/* lists are about two compute processes and a graphics one on GPU 0. */
static void lists(void) {
    nvmlDevice_t device = {0}, same = {0};
    unsigned int n = 7;
    char text[96];
    OK(nvmlDeviceGetHandleByIndex_v2, 0, &device);
    OK(nvmlDeviceGetModuleId, device, &n);
    want(n, 0, "module of a GPU that is on no baseboard");
    WANT(INSUFFICIENT_SIZE, nvmlDeviceGetComputeRunningProcesses_v3, device, &n, NULL);
    want(n, 2, "processes of a size probe");
    n = 1;
    nvmlProcessInfo_t one;
    WANT(INSUFFICIENT_SIZE, nvmlDeviceGetComputeRunningProcesses_v3, device, &n, &one);
    want(n, 2, "processes for which there is no room");
    nvmlProcessInfo_t *infos = malloc(2 * sizeof *infos);
    OK(nvmlDeviceGetComputeRunningProcesses_v3, device, &n, infos);
    want(infos[0].pid * 10000 + infos[1].pid, 1010102, "pids");
    want((long long)infos[1].usedGpuMemory, 2048, "memory of a process");
    want(infos[0].gpuInstanceId, 0xffffffff, "instance of a process without MIG");
    free(infos);
    /* The record of the first version is smaller; the sanitizer watches. */
    nvmlProcessInfo_v1_t *old = malloc(2 * sizeof *old);
    OK(nvmlDeviceGetComputeRunningProcesses, device, &n, old);
    want((long long)old[1].pid, 102, "pid in the first version");
    free(old);
    n = 0;
    WANT(INSUFFICIENT_SIZE, nvmlDeviceGetGraphicsRunningProcesses_v3, device, &n, NULL);
    want(n, 1, "graphics processes");
    n = 0;
    OK(nvmlDeviceGetMPSComputeRunningProcesses_v3, device, &n, NULL);
    OK(nvmlSystemGetProcessName, 102, text, sizeof text);
    want(strcmp(text, "python3 train.py"), 0, text);
    OK(nvmlSystemGetProcessName, 102, text, 8);
    want(strcmp(text, "python3"), 0, "a name that is cut");
    WANT(NO_DATA, nvmlSystemGetProcessName, 4242, text, sizeof text);
    WANT(NOT_FOUND, nvmlSystemGetProcessName, 0, text, sizeof text);

    unsigned int count = 0;
    nvmlProcessUtilizationSample_t samples[3];
    WANT(INSUFFICIENT_SIZE, nvmlDeviceGetProcessUtilization, device, NULL, &count, 0);
    want(count, 3, "samples");
    OK(nvmlDeviceGetProcessUtilization, device, samples, &count, 0);
    want(samples[1].smUtil, 40, "utilization of a process");
    WANT(NOT_FOUND, nvmlDeviceGetProcessUtilization, device, samples, &count, ~0ULL);

    nvmlSample_t sample;
    nvmlValueType_t type;
    count = 1;
    OK(nvmlDeviceGetSamples, device, NVML_GPU_UTILIZATION_SAMPLES, 0, &type, &count, &sample);
    want(sample.sampleValue.uiVal, 70, "sample of the utilization");
    nvmlFieldValue_t fields[] = {{.fieldId = NVML_FI_DEV_ECC_DBE_VOL_TOTAL}, {.fieldId = 9999}, {.fieldId = NVML_FI_DEV_NVLINK_GET_STATE, .scopeId = 17}};
    OK(nvmlDeviceGetFieldValues, device, 3, fields);
    want((long long)fields[0].value.ullVal, 5, "field");
    want(fields[1].nvmlReturn, NVML_ERROR_NOT_SUPPORTED, "field that there is not");
    want(fields[2].nvmlReturn, NVML_SUCCESS, "field of a link");
    WANT(INVALID_ARGUMENT, nvmlDeviceGetFieldValues, device, 0, fields);
    unsigned int clocks[256];
    count = 256;
    unsigned int memory_clock = 0;
    OK(nvmlDeviceGetMaxClockInfo, device, NVML_CLOCK_MEM, &memory_clock);
    OK(nvmlDeviceGetSupportedGraphicsClocks, device, memory_clock, &count, clocks);
    want(clocks[0] > clocks[count - 1], 1, "clocks go down");
    WANT(NOT_FOUND, nvmlDeviceGetSupportedGraphicsClocks, device, 1, &count, clocks);

    /* Any pair of GPUs has an ancestor. */
    OK(nvmlDeviceGetCount_v2, &n);
    for (unsigned int i = 0; i < n * n; i++) {
        nvmlGpuTopologyLevel_t level;
        OK(nvmlDeviceGetHandleByIndex_v2, i / n, &device);
        OK(nvmlDeviceGetHandleByIndex_v2, i % n, &same);
        OK(nvmlDeviceGetTopologyCommonAncestor, device, same, &level);
        want(level == NVML_TOPOLOGY_INTERNAL, i / n == i % n, "only the GPU itself is internal");
    }
}

/* mig is about GPU 1, which has a MIG device of one slice and one of three. */
static void mig(void) {
    nvmlDevice_t gpu = {0}, device = {0}, back = {0};
    unsigned int n = 0, other = 0;
    char text[96];
    OK(nvmlDeviceGetHandleByIndex_v2, 1, &gpu);
    OK(nvmlDeviceGetMigMode, gpu, &n, &other);
    want(n + other, 2, "MIG mode");
    OK(nvmlDeviceGetMaxMigDeviceCount, gpu, &n);
    want(n, 7, "most MIG devices");
    WANT(NOT_FOUND, nvmlDeviceGetMigDeviceHandleByIndex, gpu, 2, &device);
    WANT(NOT_FOUND, nvmlDeviceGetMigDeviceHandleByIndex, gpu, 7, &device);
    OK(nvmlDeviceGetMigDeviceHandleByIndex, gpu, 0, &device);
    OK(nvmlDeviceIsMigDeviceHandle, device, &n);
    want(n, 1, "it is a MIG device");
    OK(nvmlDeviceGetUUID, device, text, sizeof text);
    OK(nvmlDeviceGetHandleByUUID, text, &back);
    want(back.handle == device.handle, 1, "its UUID names it");
    OK(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, device, &back);
    want(back.handle == gpu.handle, 1, "it is part of its GPU");
    WANT(INVALID_ARGUMENT, nvmlDeviceGetDeviceHandleFromMigDeviceHandle, gpu, &back);
    WANT(NOT_SUPPORTED, nvmlDeviceGetMinorNumber, device, &n);
    nvmlDeviceAttributes_t attributes;
    OK(nvmlDeviceGetAttributes_v2, device, &attributes);
    want(attributes.gpuInstanceSliceCount, 3, "slices");
    /* The first versions of these structs were shorter. */
    size_t old = __builtin_offsetof(nvmlDeviceAttributes_t, gpuInstanceSliceCount);
    nvmlDeviceAttributes_t *old_attributes = malloc(old);
    OK(nvmlDeviceGetAttributes, device, old_attributes);
    want(memcmp(old_attributes, &attributes, old), 0, "attributes in both versions");
    free(old_attributes);
    nvmlMemory_t memory;
    OK(nvmlDeviceGetMemoryInfo, device, &memory);
    want((long long)memory.total, 40448LL << 20, "memory of the MIG device, as nvidia-smi shows it");
    want(attributes.sharedCopyEngineCount * 1000 + attributes.sharedDecoderCount * 100 + attributes.sharedJpegCount * 10 + attributes.sharedOfaCount,
         3330, "engines of the MIG device");
    OK(nvmlDeviceGetGpuInstanceId, device, &n);
    want(n, 1, "GPU instance");
    nvmlGpuInstance_t gi;
    nvmlComputeInstance_t ci;
    nvmlGpuInstanceInfo_t gi_info;
    nvmlComputeInstanceInfo_t ci_info;
    OK(nvmlDeviceGetGpuInstanceById, gpu, n, &gi);
    WANT(NOT_FOUND, nvmlDeviceGetGpuInstanceById, gpu, 9, &gi);
    OK(nvmlGpuInstanceGetInfo, gi, &gi_info);
    want(gi_info.id, 1, "id of the GPU instance");
    OK(nvmlGpuInstanceGetComputeInstanceById, gi, 0, &ci);
    OK(nvmlComputeInstanceGetInfo_v2, ci, &ci_info);
    old = __builtin_offsetof(nvmlComputeInstanceInfo_t, placement);
    nvmlComputeInstanceInfo_t *old_info = malloc(old);
    OK(nvmlComputeInstanceGetInfo, ci, old_info);
    want(memcmp(old_info, &ci_info, old), 0, "compute instance in both versions");
    free(old_info);
    /* Both profiles can be found by their ids. */
    int found = 0;
    for (unsigned int i = 0; i < NVML_GPU_INSTANCE_PROFILE_COUNT; i++) {
        nvmlGpuInstanceProfileInfo_t info;
        if (CALL(nvmlDeviceGetGpuInstanceProfileInfo, gpu, i, &info) == NVML_SUCCESS && info.id == gi_info.profileId)
            found += info.sliceCount == 3;
    }
    for (unsigned int i = 0; i < NVML_COMPUTE_INSTANCE_PROFILE_COUNT; i++) {
        nvmlComputeInstanceProfileInfo_t info;
        if (CALL(nvmlGpuInstanceGetComputeInstanceProfileInfo, gi, i, 0, &info) == NVML_SUCCESS && info.id == ci_info.profileId)
            found += info.sliceCount == 3;
    }
    want(found, 2, "profiles of the instances");
    nvmlGpuInstanceProfileInfo_v3_t v3 = {.version = nvmlGpuInstanceProfileInfo_v3};
    OK(nvmlDeviceGetGpuInstanceProfileInfoByIdV, gpu, gi_info.profileId, (nvmlGpuInstanceProfileInfo_v2_t *)&v3);
    want(v3.sliceCount * 1000 + v3.multiprocessorCount, 3060, "slices and multiprocessors of a profile");
    want(strcmp(v3.name, "MIG 3g.40gb"), 0, v3.name);
    nvmlGpuInstanceProfileInfo_v2_t v2 = {.version = nvmlGpuInstanceProfileInfo_v2};
    WANT(INVALID_ARGUMENT, nvmlDeviceGetGpuInstanceProfileInfoByIdV, gpu, 99, &v2);
    OK(nvmlDeviceGetGpuInstanceProfileInfoV, gpu, NVML_GPU_INSTANCE_PROFILE_1_SLICE, &v2);
    v2.version = 1;
    WANT(ARGUMENT_VERSION_MISMATCH, nvmlDeviceGetGpuInstanceProfileInfoV, gpu, NVML_GPU_INSTANCE_PROFILE_1_SLICE, &v2);
    v2.version = nvmlGpuInstanceProfileInfo_v2;
    OK(nvmlDeviceGetHandleByIndex_v2, 0, &back); /* which is not in MIG mode */
    OK(nvmlDeviceGetGpuInstanceProfileInfoV, back, NVML_GPU_INSTANCE_PROFILE_1_SLICE, &v2); /* without MIG as well */

    /* What the header says of MIG in the notes on single functions. */
    for (unsigned int i = 0; i < 2; i++) {
        OK(nvmlDeviceGetMigDeviceHandleByIndex, gpu, i, &back);
        OK(nvmlDeviceGetIndex, back, &n);
        want(n, i, "index of a MIG device");
    }
    nvmlComputeMode_t mode = NVML_COMPUTEMODE_PROHIBITED;
    OK(nvmlDeviceGetComputeMode, device, &mode);
    want(mode, NVML_COMPUTEMODE_DEFAULT, "compute mode of the MIG device");
    WANT(INVALID_ARGUMENT, nvmlDeviceGetComputeMode, device, NULL);
    WANT(NOT_SUPPORTED, nvmlDeviceGetRemappedRows, gpu, &n, &n, &n, &n);
    WANT(NOT_SUPPORTED, nvmlDeviceGetRemappedRows, device, &n, &n, &n, &n);
    WANT(NOT_SUPPORTED, nvmlDeviceGetNumGpuCores, gpu, &n);
    WANT(NOT_SUPPORTED, nvmlDeviceGetNumGpuCores, device, &n);
    nvmlValueType_t type;
    const struct { nvmlSamplingType_t type; nvmlReturn_t answer; } samples[] = {
        {NVML_TOTAL_POWER_SAMPLES, NVML_SUCCESS},
        {NVML_GPU_UTILIZATION_SAMPLES, NVML_ERROR_NOT_SUPPORTED},
        {NVML_MEMORY_UTILIZATION_SAMPLES, NVML_ERROR_NOT_SUPPORTED},
        {NVML_ENC_UTILIZATION_SAMPLES, NVML_ERROR_NOT_SUPPORTED},
        {NVML_DEC_UTILIZATION_SAMPLES, NVML_ERROR_NOT_SUPPORTED},
        {NVML_PROCESSOR_CLK_SAMPLES, NVML_SUCCESS},
    };
    for (unsigned int i = 0; i < sizeof samples / sizeof *samples; i++) {
        want(CALL(nvmlDeviceGetSamples, gpu, samples[i].type, 0, &type, &n, NULL), samples[i].answer, "samples of a divided GPU");
        WANT(NOT_SUPPORTED, nvmlDeviceGetSamples, device, samples[i].type, 0, &type, &n, NULL);
    }
    nvmlBAR1Memory_t whole, part;
    OK(nvmlDeviceGetBAR1MemoryInfo, gpu, &whole);
    OK(nvmlDeviceGetBAR1MemoryInfo, device, &part);
    want((long long)part.bar1Total, (long long)whole.bar1Total / 2, "BAR1 of the MIG device, four eighths");
    want((long long)(part.bar1Free + part.bar1Used), (long long)part.bar1Total, "BAR1 adds up");
    unsigned long long errors = 7;
    OK(nvmlDeviceGetMemoryErrorCounter, device, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC, NVML_MEMORY_LOCATION_SRAM, &errors);
    want((long long)errors, 0, "errors of the MIG device");
    WANT(NOT_SUPPORTED, nvmlDeviceGetMemoryErrorCounter, device, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC,
         NVML_MEMORY_LOCATION_DRAM, &errors);
    WANT(NOT_SUPPORTED, nvmlDeviceGetMemoryErrorCounter, gpu, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC,
         NVML_MEMORY_LOCATION_SRAM, &errors);
    OK(nvmlDeviceGetMemoryErrorCounter, gpu, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_AGGREGATE_ECC, NVML_MEMORY_LOCATION_DRAM, &errors);
}

static void append(const char *line) {
    char path[4096];
    snprintf(path, sizeof path, "%s/events", getenv("FAKEGPU_STATE"));
    FILE *f = fopen(path, "a");
    fputs(line, f);
    fclose(f);
}

/* expect waits for one event of a set. */
static void expect(nvmlEventSet_t set, unsigned int timeout, long long xid, const char *what) {
    nvmlEventData_t data;
    memset(&data, 0x55, sizeof data);
    nvmlReturn_t r = CALL(nvmlEventSetWait_v2, set, &data, timeout);
    if (xid < 0)
        want(r, NVML_ERROR_TIMEOUT, what);
    else if (want(r, NVML_SUCCESS, what), r == NVML_SUCCESS) {
        want((long long)data.eventData, xid, what);
        want((long long)data.eventType, nvmlEventTypeXidCriticalError, "type of the event");
        want(data.gpuInstanceId + (long long)data.computeInstanceId, 2 * 0xffffffffLL, "instances of the event");
    }
}

static void events(void) {
    nvmlDevice_t gpu = {0}, other = {0};
    nvmlEventSet_t a, b, none = {0};
    nvmlEventData_t data;
    unsigned long long types = 0;
    char uuid[96], uuid2[96], line[512];
    OK(nvmlDeviceGetHandleByIndex_v2, 0, &gpu);
    OK(nvmlDeviceGetHandleByIndex_v2, 1, &other);
    OK(nvmlDeviceGetUUID, gpu, uuid, sizeof uuid);
    OK(nvmlDeviceGetUUID, other, uuid2, sizeof uuid2);
    OK(nvmlDeviceGetSupportedEventTypes, gpu, &types);
    want((types & nvmlEventTypeXidCriticalError) != 0, 1, "Xids are supported");
    OK(nvmlEventSetCreate, &a);
    OK(nvmlEventSetCreate, &b);
    WANT(INVALID_ARGUMENT, nvmlDeviceRegisterEvents, gpu, nvmlEventTypeXidCriticalError, none);
    WANT(INVALID_ARGUMENT, nvmlDeviceRegisterEvents, gpu, 1ULL << 60, a);
    OK(nvmlDeviceRegisterEvents, gpu, nvmlEventTypePowerSourceChange, a);
    WANT(INVALID_ARGUMENT, nvmlEventSetWait_v2, a, NULL, 0);
    WANT(INVALID_ARGUMENT, nvmlEventSetWait_v2, none, &data, 0);
    WANT(TIMEOUT, nvmlEventSetWait_v2, a, &data, 0);

    snprintf(line, sizeof line, "%s 8 1\n", uuid);
    append(line); /* before anybody asked */
    OK(nvmlDeviceRegisterEvents, gpu, nvmlEventTypeXidCriticalError, a);
    OK(nvmlDeviceRegisterEvents, gpu, nvmlEventTypeXidCriticalError, b);
    expect(a, 0, -1, "an event from before");
    snprintf(line, sizeof line, "%s 8 2\nnot an event\n%s 8 3\n%s 1 4\n%s 8 5\n%s 8", uuid, uuid2, uuid, uuid, uuid);
    append(line); /* of another GPU, of another type, and one that is not written to its end */
    expect(a, 1000, 2, "the first event");
    OK(nvmlDeviceRegisterEvents, other, nvmlEventTypeXidCriticalError, a);
    expect(a, 1000, 5, "the second event");
    expect(a, 20, -1, "half an event");
    append(" 6\n");
    expect(a, 1000, 6, "its other half");
    expect(b, 1000, 2, "another set gets the same");
    expect(b, 1000, 5, "another set gets the same");
    expect(b, 1000, 6, "another set gets the same");
    OK(nvmlDeviceRegisterEvents, gpu, nvmlEventTypeXidCriticalError, a); /* again: still once each */
    snprintf(line, sizeof line, "%s 8 7\n", uuid2);
    append(line);
    expect(a, 1000, 7, "an event of the other GPU");
    expect(a, 0, -1, "an event twice");
    /* A child waits for itself, from where its parent was. */
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        snprintf(line, sizeof line, "%s 8 8\n", uuid);
        append(line);
        failures = 0;
        expect(a, 1000, 8, "an event in a child");
        fflush(stdout);
        _exit(failures != 0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    want(status, 0, "status of the child");
    expect(a, 1000, 8, "the same event in its parent");
    /* The struct of the first version is shorter. */
    append(line);
    size_t size = __builtin_offsetof(nvmlEventData_t, gpuInstanceId);
    void *old = malloc(size);
    OK(nvmlEventSetWait, a, old, 1000);
    data = (nvmlEventData_t){.device = other, .eventType = nvmlEventTypeXidCriticalError, .eventData = 7};
    want(memcmp(old, &data, size), 0, "an event of version 1");
    free(old);
    WANT(INVALID_ARGUMENT, nvmlEventSetWait, a, NULL, 0);
    /* A line that never ends is damage, and is passed over. */
    char *noise = malloc(20000);
    memset(noise, 'x', 19999);
    noise[19999] = 0;
    append(noise);
    free(noise);
    snprintf(line, sizeof line, "\n%s 8 9\n", uuid);
    append(line);
    expect(a, 1000, 9, "an event after damage");
    OK(nvmlEventSetFree, a);
    WANT(INVALID_ARGUMENT, nvmlEventSetFree, a);
    WANT(INVALID_ARGUMENT, nvmlEventSetWait_v2, a, &data, 0);
    OK(nvmlEventSetFree, b);
    for (int i = 0; i < 1000; i++) { /* sets do not run out */
        OK(nvmlEventSetCreate, &a);
        OK(nvmlEventSetFree, a);
    }
}

static void *wait_for_event(void *set) {
    nvmlEventData_t data;
    WANT(INVALID_ARGUMENT, nvmlEventSetWait_v2, *(nvmlEventSet_t *)set, &data, 60000);
    return NULL;
}

/* freed is about a set that is freed while a thread waits for it, and a new one
 * at its place. */
static void freed(void) {
    nvmlDevice_t gpu = {0};
    nvmlEventSet_t old, new;
    char uuid[96], line[512];
    pthread_t waiter;
    OK(nvmlDeviceGetHandleByIndex_v2, 0, &gpu);
    OK(nvmlDeviceGetUUID, gpu, uuid, sizeof uuid);
    OK(nvmlEventSetCreate, &old);
    OK(nvmlDeviceRegisterEvents, gpu, nvmlEventTypeXidCriticalError, old);
    __atomic_store_n(&hold, 1, __ATOMIC_RELEASE);
    pthread_create(&waiter, NULL, wait_for_event, &old);
    while (!__atomic_load_n(&held, __ATOMIC_ACQUIRE)) sched_yield();
    OK(nvmlEventSetFree, old);
    OK(nvmlEventSetCreate, &new);
    want(new.handle == old.handle, 1, "the new set is at the place of the old one");
    OK(nvmlDeviceRegisterEvents, gpu, nvmlEventTypeXidCriticalError, new);
    snprintf(line, sizeof line, "%s 8 77\n", uuid);
    append(line);
    __atomic_store_n(&hold, 0, __ATOMIC_RELEASE);
    pthread_join(waiter, NULL);
    expect(new, 1000, 77, "the event of the new set");
    OK(nvmlEventSetFree, new);
}

/* sets end with the last nvmlShutdown. */
static void sets(void) {
    nvmlEventSet_t set = {0};
    nvmlEventData_t data;
    for (int round = 0; round < 3; round++) {
        INIT();
        INIT();
        if (round) WANT(INVALID_ARGUMENT, nvmlEventSetWait_v2, set, &data, 0);
        for (int i = 0; i < 64; i++) OK(nvmlEventSetCreate, &set);
        SHUTDOWN();
        WANT(TIMEOUT, nvmlEventSetWait_v2, set, &data, 0);
        SHUTDOWN();
    }
}

/* every calls a function by its name with no more than zeros, or a device and
 * zeros. No function has more parameters than eight. */
static int every(const char *name, nvmlDevice_t device) {
    char plain[128];
    snprintf(plain, sizeof plain, "%.*s", (int)strcspn(name, "@"), name);
    int (*function)(void *, void *, void *, void *, void *, void *, void *, void *) = symbol(plain);
    return function(device.handle, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
}

static void all(char **names) {
    nvmlDevice_t none = {0}, gpu = {0}, doomed = {0};
    nvmlMemory_t memory;
    for (char **n = names; *n; n++) want(every(*n, none), NVML_ERROR_UNINITIALIZED, *n);
    INIT();
    OK(nvmlDeviceGetHandleByIndex_v2, 0, &gpu);
    OK(nvmlDeviceGetHandleByIndex_v2, 1, &doomed);
    for (char **n = names; *n; n++) {
        if (!strcmp(*n, "nvmlShutdown")) continue;
        int answer = every(*n, none);
        int good = answer == NVML_ERROR_NOT_SUPPORTED || answer == NVML_ERROR_INVALID_ARGUMENT;
        want(strchr(*n, '@') ? answer == NVML_ERROR_INVALID_ARGUMENT : good, 1, *n);
        if (!strchr(*n, '@')) continue;
        answer = every(*n, gpu);
        if (!strcmp(*n, "nvmlDeviceValidateInforom@")) continue; /* it has nothing but the device */
        if (!strncmp(*n, "nvmlDeviceSet", 13) && (answer == NVML_SUCCESS || answer == NVML_ERROR_NO_PERMISSION)) continue; /* to 0 */
        want(answer == NVML_ERROR_NOT_SUPPORTED || answer == NVML_ERROR_INVALID_ARGUMENT || answer == NVML_ERROR_INSUFFICIENT_SIZE, 1, *n);
    }
    ready();
    while (CALL(nvmlDeviceGetMemoryInfo, doomed, &memory) != NVML_ERROR_GPU_IS_LOST) sched_yield();
    for (char **n = names; *n; n++)
        if (strchr(*n, '@')) want(every(*n, doomed), NVML_ERROR_GPU_IS_LOST, *n);
    SHUTDOWN();
}

static void *ask(void *end) {
    nvmlDevice_t device = {0};
    char text[96];
    unsigned int n, m;
    for (time_t until = *(time_t *)end; time(NULL) < until;) {
        want(CALL(nvmlDeviceGetCount_v2, &n), NVML_SUCCESS, "count");
        if (CALL(nvmlDeviceGetHandleByIndex_v2, n - 1, &device) != NVML_SUCCESS) continue; /* removed since */
        nvmlReturn_t r = CALL(nvmlDeviceGetUUID, device, text, sizeof text);
        if (r != NVML_ERROR_GPU_IS_LOST) want(r, NVML_SUCCESS, "UUID");
        nvmlMemory_t memory;
        if (CALL(nvmlDeviceGetMemoryInfo, device, &memory) == NVML_SUCCESS)
            want((long long)(memory.free + memory.used), (long long)memory.total, "memory adds up");
        nvmlEventSet_t set;
        nvmlEventData_t data;
        if (CALL(nvmlEventSetCreate, &set) != NVML_SUCCESS) continue;
        CALL(nvmlDeviceRegisterEvents, device, nvmlEventTypeXidCriticalError, set);
        CALL(nvmlEventSetWait_v2, set, &data, 1);
        OK(nvmlEventSetFree, set);
        OK(nvmlInitWithFlags, 0);
        want(SHUTDOWN(), NVML_SUCCESS, "nvmlShutdown()");
        CALL(nvmlDeviceGetTemperatureThreshold, device, NVML_TEMPERATURE_THRESHOLD_SHUTDOWN, &m);
    }
    return NULL;
}

static void threads(void) {
    pthread_t all[8];
    time_t end = time(NULL) + 2;
    INIT();
    for (int i = 0; i < 8; i++) pthread_create(&all[i], NULL, ask, &end);
    for (int i = 0; i < 8; i++) pthread_join(all[i], NULL);
    want(SHUTDOWN(), NVML_SUCCESS, "nvmlShutdown()");
}

static void watch(int count) {
    nvmlDevice_t device = {0};
    nvmlEventSet_t set;
    nvmlEventData_t data;
    INIT();
    OK(nvmlEventSetCreate, &set);
    for (unsigned int i = 0; i < 2; i++) {
        OK(nvmlDeviceGetHandleByIndex_v2, i, &device);
        OK(nvmlDeviceRegisterEvents, device, nvmlEventTypeXidCriticalError, set);
    }
    ready();
    for (; count > 0; count--) {
        OK(nvmlEventSetWait_v2, set, &data, 20000);
        printf("%llu\n", data.eventData);
    }
    OK(nvmlEventSetFree, set);
    SHUTDOWN();
}

/* processor is the time that this process has had a processor for, in seconds:
 * what others do at the same time is not in it. */
static double processor(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* bench prints nanoseconds a call: of a function that only returns a text, and
 * of some that look at the state, on the last GPU. */
static void bench(void) {
    enum { CALLS = 1000000 };
    nvmlDevice_t device = {0};
    unsigned int n = 0;
    char text[96];
    INIT();
    OK(nvmlDeviceGetCount_v2, &n);
    OK(nvmlDeviceGetHandleByIndex_v2, n - 1, &device);
    const char *(*bare)(nvmlReturn_t) = symbol("nvmlErrorString");
    nvmlReturn_t (*temperature)(nvmlDevice_t, nvmlTemperatureSensors_t, unsigned int *) = symbol("nvmlDeviceGetTemperature");
    nvmlReturn_t (*uuid)(nvmlDevice_t, char *, unsigned int) = symbol("nvmlDeviceGetUUID");
    nvmlReturn_t (*stub)(nvmlDevice_t, unsigned int *) = symbol("nvmlDeviceGetPowerMizerMode_v1");
#define TIME(name, call)                                                       \
    do {                                                                       \
        double start = processor();                                            \
        for (int i = 0; i < CALLS; i++) call;                                  \
        printf("%s %.1f\n", name, (processor() - start) / CALLS * 1e9);        \
    } while (0)
    TIME("bare-call", bare(NVML_SUCCESS));
    TIME("temperature", temperature(device, NVML_TEMPERATURE_GPU, &n));
    TIME("uuid", uuid(device, text, sizeof text));
    TIME("not-supported", stub(device, &n));
    SHUTDOWN();
}

static void clocks(void) {
    nvmlDevice_t device = {0};
    unsigned int memory[8], graphics[512], n = 8;
    INIT();
    OK(nvmlDeviceGetHandleByIndex_v2, 0, &device);
    OK(nvmlDeviceGetSupportedMemoryClocks, device, &n, memory);
    for (unsigned int i = 0, m; i < n; i++) {
        m = 512;
        OK(nvmlDeviceGetSupportedGraphicsClocks, device, memory[i], &m, graphics);
        printf("%u:", memory[i]);
        for (unsigned int j = 0; j < m; j++) printf(" %u", graphics[j]);
        printf("\n");
    }
    SHUTDOWN();
}

static void setter(void) {
    nvmlDevice_t device = {0};
    INIT();
    OK(nvmlDeviceGetHandleByIndex_v2, 0, &device);
    printf("%d\n", CALL(nvmlDeviceSetPersistenceMode, device, NVML_FEATURE_DISABLED));
    SHUTDOWN();
}

/* load asks all there is to ask about the GPUs of a state that may be damaged. */
static void load(const char *dir) {
    unsigned int count = 0;
    setenv("FAKEGPU_STATE", dir, 1);
    int code = ((int (*)(void))symbol("nvmlInit_v2"))();
    printf("%d\n", code);
    if (code != NVML_SUCCESS) return;
    OK(nvmlDeviceGetCount_v2, &count);
    for (unsigned int i = 0; i < count; i++) {
        nvmlDevice_t device = {0};
        char text[96];
        nvmlPciInfo_t pci;
        nvmlMemory_v2_t memory = {.version = nvmlMemory_v2};
        nvmlReturn_t r = CALL(nvmlDeviceGetHandleByIndex_v2, i, &device);
        if (r == NVML_ERROR_MEMORY) continue; /* no process needs that many UUIDs */
        want(r, NVML_SUCCESS, "a handle");
        OK(nvmlDeviceGetUUID, device, text, sizeof text);
        OK(nvmlDeviceGetName, device, text, sizeof text);
        OK(nvmlDeviceGetPciInfo_v3, device, &pci);
        OK(nvmlDeviceGetMemoryInfo_v2, device, &memory);
        want((long long)(memory.free + memory.used + memory.reserved), (long long)memory.total, "memory adds up");
    }
    want(SHUTDOWN(), NVML_SUCCESS, "nvmlShutdown()");
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    library = dlopen(argv[1], !strcmp(argv[2], "now") ? RTLD_NOW : RTLD_LAZY);
    if (!library) {
        printf("FAIL: %s\n", dlerror());
        return 1;
    }
    if (!strcmp(argv[3], "check"))
        check(argv[4], (unsigned int)atoi(argv[5]));
    else if (!strcmp(argv[3], "rich")) {
        INIT();
        lists();
        mig();
        events();
        freed();
        SHUTDOWN();
        sets();
    } else if (!strcmp(argv[3], "every"))
        all(argv + 4);
    else if (!strcmp(argv[3], "threads"))
        threads();
    else if (!strcmp(argv[3], "watch"))
        watch(atoi(argv[4]));
    else if (!strcmp(argv[3], "clocks"))
        clocks();
    else if (!strcmp(argv[3], "setter"))
        setter();
    else if (!strcmp(argv[3], "bench"))
        bench();
    else
        for (int i = 4; i < argc; i++) load(argv[i]);
    return failures != 0;
}
