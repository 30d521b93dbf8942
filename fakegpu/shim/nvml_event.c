/* Events: lines of the journal that were appended after a client had asked for
 * them. */
#include "journal.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* A registration wants events of some types of one GPU: from a place of the
 * journal on, and of a journal that comes instead of that one those that are
 * younger than the registration. */
struct registration {
    char uuid[TEXT];
    unsigned long long types, time;
    unsigned int book;
    long long from;
};

enum { MAX_SETS = 64, MAX_REGISTRATIONS = 4 * MAX_GPUS, POLL_US = 10000 };

struct nvmlEventSet_st {
    unsigned long long serial; /* tells it from others that had its place before; 0 if it is free */
    struct place place; /* how much of the journal the set has seen */
    unsigned int count;
    struct registration registrations[MAX_REGISTRATIONS];
};
static struct nvmlEventSet_st sets[MAX_SETS];

static int valid(nvmlEventSet_t set) {
    uintptr_t at = (uintptr_t)set.handle - (uintptr_t)sets;
    return at < sizeof sets && at % sizeof *sets == 0 && set.handle->serial;
}

nvmlReturn_t model_nvmlEventSetCreate(nvmlEventSet_t *set) {
    static unsigned long long serial;
    NEED(set);
    for (unsigned int i = 0; i < MAX_SETS; i++) {
        if (sets[i].serial) continue;
        sets[i].serial = ++serial;
        sets[i].count = 0;
        memset(&sets[i].place, 0, sizeof sets[i].place);
        set->handle = &sets[i];
        return NVML_SUCCESS;
    }
    return NVML_ERROR_MEMORY;
}

nvmlReturn_t model_nvmlEventSetFree(nvmlEventSet_t set) {
    NEED(valid(set));
    set.handle->serial = 0;
    return NVML_SUCCESS;
}

void events_end(void) {
    for (unsigned int i = 0; i < MAX_SETS; i++) sets[i].serial = 0;
}

/* supported are the events that the commands raise: journal.go has the same. */
static unsigned long long supported(const struct gpu *g) {
    if (since_hopper(g)) return nvmlEventTypeAll;
    unsigned long long types = nvmlEventTypeXidCriticalError | nvmlEventTypeClock | nvmlEventTypeGpuRecoveryAction | nvmlEventTypeGpuUnavailableError;
    if (g->low_clock_memory) types |= nvmlEventTypePState;
    if (g->ecc) types |= nvmlEventTypeSingleBitEccError | nvmlEventTypeDoubleBitEccError;
    if (g->ecc && g->architecture >= NVML_DEVICE_ARCH_AMPERE) types |= nvmlEventTypeDramRetirementEvent | nvmlEventTypeDramRetirementFailure;
    if (g->mig_max) types |= nvmlEventMigConfigChange;
    return types;
}

GETTER(nvmlDeviceGetSupportedEventTypes, unsigned long long, 1, supported(g))

nvmlReturn_t model_nvmlDeviceRegisterEvents(const struct gpu *g, unsigned long long types, nvmlEventSet_t set) {
    NEED(valid(set));
    NEED(!(types & ~(unsigned long long)nvmlEventTypeAll));
    SUPPORT(!(types & ~supported(g)));
    struct nvmlEventSet_st *s = set.handle;
    struct place end = s->place;
    journal_end(&end);
    if (s->count == 0)
        s->place = end;
    else
        journal_look(&s->place); /* and count on as end does */
    for (unsigned int i = 0; i < s->count; i++)
        if (!strcmp(s->registrations[i].uuid, g->uuid)) types &= ~s->registrations[i].types; /* asked for already */
    if (!types) return NVML_SUCCESS;
    if (s->count == MAX_REGISTRATIONS) return NVML_ERROR_MEMORY;
    struct registration *r = &s->registrations[s->count++];
    strcpy(r->uuid, g->uuid); /* the same size */
    r->types = types;
    r->from = end.read;
    r->book = end.book;
    r->time = now_us();
    return NVML_SUCCESS;
}

static int wanted(const struct nvmlEventSet_st *s, const struct entry *e) {
    for (unsigned int i = 0; i < s->count; i++) {
        const struct registration *r = &s->registrations[i];
        int later = r->book == s->place.book ? e->at >= r->from : !e->time || e->time >= r->time;
        if (later && r->types & e->type && !strcmp(r->uuid, e->uuid)) return 1;
    }
    return 0;
}

/* next_event reads on in the journal to the first event that the set wants. */
static int next_event(struct nvmlEventSet_st *s, nvmlEventData_t *data) {
    struct entry e;
    do {
        if (!journal_next(&s->place, &e)) return 0;
    } while (!wanted(s, &e));
    memset(data, 0, sizeof *data);
    data->device.handle = handle_for(e.uuid);
    data->eventType = e.type;
    data->eventData = e.data;
    data->gpuInstanceId = e.gi;
    data->computeInstanceId = e.ci;
    return 1;
}

/* lost says whether one of the set's GPUs is lost; nothing more will come of it. */
static int lost(const struct nvmlEventSet_st *s) {
    struct device d;
    for (unsigned int i = 0; i < s->count; i++) {
        struct nvmlDevice_st *handle = handle_for(s->registrations[i].uuid);
        if (handle && handle_device(handle, &d) == NVML_ERROR_GPU_IS_LOST) return 1;
    }
    return 0;
}

static long long microseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

/* The journal is looked at every 10 ms. Whoever waits for events does so all its life, and
 * to look every 2 ms would take 2 % of a processor. */
nvmlReturn_t model_nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout_ms) {
    NEED(data && valid(set));
    unsigned long long serial = set.handle->serial;
    for (long long end = microseconds() + timeout_ms * 1000LL;;) {
        NEED(set.handle->serial == serial); /* it may be freed while its waiter sleeps */
        if (next_event(set.handle, data)) {
            state_expire();
            return NVML_SUCCESS;
        }
        if (lost(set.handle)) return NVML_ERROR_GPU_IS_LOST;
        long long left = end - microseconds();
        if (left <= 0) return NVML_ERROR_TIMEOUT;
        nvmlReturn_t r = state_sleep(left < POLL_US ? left : POLL_US);
        if (r) return r;
    }
}

/* The struct of the first version ends before the instances; its callers have
 * no room for more. */
nvmlReturn_t model_nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout_ms) {
    nvmlEventData_t all;
    NEED(data);
    nvmlReturn_t r = model_nvmlEventSetWait_v2(set, &all, timeout_ms);
    if (r == NVML_SUCCESS) memcpy(data, &all, offsetof(nvmlEventData_t, gpuInstanceId));
    return r;
}

nvmlReturn_t model_nvmlEventSetWait_v3(nvmlEventSet_t set, nvmlEventSetWait_v3_t *event) {
    nvmlEventData_t data;
    struct device d;
    NEED(event);
    nvmlReturn_t r = model_nvmlEventSetWait_v2(set, &data, event->timeoutMs);
    if (r) return r;
    unsigned int timeout = event->timeoutMs;
    memset(event, 0, sizeof *event);
    event->timeoutMs = timeout;
    event->dataType = NVML_EVENT_DATA_TYPE_NVML_EVENT;
    event->eventType = data.eventType;
    event->eventData = data.eventData;
    event->gpuInstanceId = data.gpuInstanceId;
    event->computeInstanceId = data.computeInstanceId;
    if (data.device.handle && !handle_device(data.device.handle, &d)) strcpy(event->uuid, d.gpu->uuid);
    return NVML_SUCCESS;
}
