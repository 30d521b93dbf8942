/* Events: lines of the journal that were appended after a client had asked for
 * them. */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A registration wants events of some types of one GPU, from a place of the
 * journal on. */
struct registration {
    char uuid[TEXT];
    unsigned long long types;
    long long from;
};

enum { MAX_SETS = 64, MAX_REGISTRATIONS = 4 * MAX_GPUS, MAX_LINE = 256, POLL_MS = 2 };

struct nvmlEventSet_st {
    unsigned long long serial; /* tells it from others that had its place before; 0 if it is free */
    long long read; /* how much of the journal the set has seen */
    unsigned int count;
    struct registration registrations[MAX_REGISTRATIONS];
};
static struct nvmlEventSet_st sets[MAX_SETS];

static int valid(nvmlEventSet_t set) {
    uintptr_t at = (uintptr_t)set.handle - (uintptr_t)sets;
    return at < sizeof sets && at % sizeof *sets == 0 && set.handle->serial;
}

static long long journal_size(void) {
    char path[PATH_MAX];
    struct stat found;
    state_path("events", path, sizeof path);
    return path[0] && !state_stat(path, &found) ? found.st_size : 0;
}

nvmlReturn_t model_nvmlEventSetCreate(nvmlEventSet_t *set) {
    static unsigned long long serial;
    NEED(set);
    for (unsigned int i = 0; i < MAX_SETS; i++) {
        if (sets[i].serial) continue;
        sets[i].serial = ++serial;
        sets[i].count = 0;
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

/* supported are the events that a model can raise. */
static unsigned long long supported(const struct gpu *g) {
    unsigned long long types = nvmlEventTypeXidCriticalError | nvmlEventTypePState | nvmlEventTypeClock;
    if (g->ecc) types |= nvmlEventTypeSingleBitEccError | nvmlEventTypeDoubleBitEccError;
    if (g->mig_max) types |= nvmlEventMigConfigChange;
    return types;
}

GETTER(nvmlDeviceGetSupportedEventTypes, unsigned long long, 1, supported(g))

nvmlReturn_t model_nvmlDeviceRegisterEvents(const struct gpu *g, unsigned long long types, nvmlEventSet_t set) {
    NEED(valid(set));
    NEED(!(types & ~(unsigned long long)nvmlEventTypeAll));
    SUPPORT(!(types & ~supported(g)));
    struct nvmlEventSet_st *s = set.handle;
    long long end = journal_size();
    if (s->count == 0) s->read = end;
    for (unsigned int i = 0; i < s->count; i++)
        if (!strcmp(s->registrations[i].uuid, g->uuid)) types &= ~s->registrations[i].types; /* asked for already */
    if (!types) return NVML_SUCCESS;
    if (s->count == MAX_REGISTRATIONS) return NVML_ERROR_MEMORY;
    struct registration *r = &s->registrations[s->count++];
    strcpy(r->uuid, g->uuid); /* the same size */
    r->types = types;
    r->from = end;
    return NVML_SUCCESS;
}

static int wanted(const struct nvmlEventSet_st *s, const char *uuid, unsigned long long type, long long at) {
    for (unsigned int i = 0; i < s->count; i++) {
        const struct registration *r = &s->registrations[i];
        if (at >= r->from && r->types & type && !strcmp(r->uuid, uuid)) return 1;
    }
    return 0;
}

/* next_event reads on in the journal to the first event that the set wants. A
 * line that is not understood is passed over, one that has no end yet is left
 * for later. */
static int next_event(struct nvmlEventSet_st *s, nvmlEventData_t *data) {
    char path[PATH_MAX], buffer[4096 + 1], uuid[TEXT];
    if (journal_size() <= s->read) return 0;
    state_path("events", path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC), found = 0;
    while (fd >= 0 && !found) {
        ssize_t length = pread(fd, buffer, sizeof buffer - 1, s->read);
        if (length < 0 && errno == EINTR) continue;
        if (length <= 0) break;
        buffer[length] = 0;
        char *line = buffer, *end;
        while (!found && (end = memchr(line, '\n', (size_t)(buffer + length - line)))) {
            unsigned long long type, value;
            char more;
            long long at = s->read;
            *end = 0;
            s->read += end + 1 - line;
            if (sscanf(line, "%95s %llu %llu%c", uuid, &type, &value, &more) == 3 && wanted(s, uuid, type, at)) {
                memset(data, 0, sizeof *data);
                data->device.handle = handle_for(uuid);
                data->eventType = type;
                data->eventData = value;
                data->gpuInstanceId = data->computeInstanceId = 0xffffffff;
                found = 1;
            }
            line = end + 1;
        }
        if (line == buffer) { /* no line ended */
            if (length < (ssize_t)sizeof buffer - 1) break;
            s->read += length; /* and none is that long: damage */
        }
    }
    if (fd >= 0) close(fd);
    return found;
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

static long long milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* The journal is looked at every few milliseconds: that needs no thread, no
 * descriptor that stays open, and works on every file system. */
nvmlReturn_t model_nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout_ms) {
    NEED(data && valid(set));
    unsigned long long serial = set.handle->serial;
    for (long long end = milliseconds() + timeout_ms;;) {
        NEED(set.handle->serial == serial); /* it may be freed while its waiter sleeps */
        if (next_event(set.handle, data)) {
            state_expire();
            return NVML_SUCCESS;
        }
        if (lost(set.handle)) return NVML_ERROR_GPU_IS_LOST;
        long long left = end - milliseconds();
        if (left <= 0) return NVML_ERROR_TIMEOUT;
        nvmlReturn_t r = state_sleep(left < POLL_MS ? (unsigned int)left : POLL_MS);
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
