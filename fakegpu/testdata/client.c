/* A client of the fake library in C, for what go-nvml cannot or does not do.
 *
 *   client LIBRARY now|lazy check UUID COUNT    checks the library's answers
 *   client LIBRARY now|lazy load DIR...         starts on each state, prints the codes
 *
 * It prints a line for each answer that is wrong, and then exits with 1. */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *library;
static int failures;

static void want(long long got, long long wanted, const char *what) {
    if (got == wanted) return;
    printf("FAIL: %s: got %lld, want %lld\n", what, got, wanted);
    failures++;
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
    want(SHUTDOWN(), NVML_ERROR_UNINITIALIZED, "nvmlShutdown() before nvmlInit");
    want(strcmp(CALL(nvmlErrorString, NVML_ERROR_UNINITIALIZED), "not initialized"), 0, "nvmlErrorString before nvmlInit");
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
    WANT(NOT_SUPPORTED, nvmlDeviceGetMigMode, device, &n, &n);
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
    WANT(INVALID_ARGUMENT, nvmlInitWithFlags, 0x80);
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
    if (argc < 5) return 2;
    library = dlopen(argv[1], !strcmp(argv[2], "now") ? RTLD_NOW : RTLD_LAZY);
    if (!library) {
        printf("FAIL: %s\n", dlerror());
        return 1;
    }
    if (!strcmp(argv[3], "check"))
        check(argv[4], (unsigned int)atoi(argv[5]));
    else
        for (int i = 4; i < argc; i++) load(argv[i]);
    return failures != 0;
}
