/* Events. */
#include "client.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

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

void events(void) {
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
void freed(void) {
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
void sets(void) {
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
