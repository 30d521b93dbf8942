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
#include "client.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

static void *library;
int failures;

void want(long long got, long long wanted, const char *what) {
    if (got == wanted) return;
    printf("FAIL: %s: got %lld, want %lld\n", what, got, wanted);
    __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
}

void *symbol(const char *name) {
    void *s = dlsym(library, name);
    if (!s) {
        printf("FAIL: %s\n", dlerror());
        exit(1);
    }
    return s;
}

/* The library's sleep is this one, so that a test can hold it up. */
int hold, held;

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
