/* What all functions of the library have in common: the lock, the newest state,
 * handles, faults, the trace. */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A handle stands for a UUID until the last nvmlShutdown, whatever happens to the
 * GPU. So there are more of them than GPUs. Those that come after an nvmlShutdown
 * are at other places, so that an old one is not taken for that of another GPU. */
struct nvmlDevice_st {
    char uuid[TEXT];
    unsigned int place; /* where the GPU was last */
};
enum { MAX_HANDLES = 2048, MAX_FILE = 1024 * 1024 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int initialized;        /* how many nvmlInit were not taken back */
static struct from_environment {
    char value[PATH_MAX], path[PATH_MAX]; /* what the variable says, and the absolute path; empty for none */
} directory, trace;                       /* the state directory; where calls are logged */
static struct machine machines[2];      /* the state in force, and the parser's work space */
static struct machine *now = machines;
static int readable;                    /* whether now was ever read from the directory */
static struct stat seen;                /* the file that was read last */
static int trouble;                     /* why it could not be read, an errno; 0 if it could */
static struct timespec looked;          /* when the file was looked at last */
static unsigned long long looked_us;    /* the same as now_us */
static struct nvmlDevice_st handles[MAX_HANDLES];
static unsigned int first_handle, handle_count; /* in use, from the first one on, and then from the beginning */

static void take(void) { pthread_mutex_lock(&lock); }
static void give(void) { pthread_mutex_unlock(&lock); }

/* pthread_atfork is a function of musl, but of glibc only a piece of each program
 * that calls this one. Both are weak, so that the library loads on either. */
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *) __attribute__((weak));
extern int pthread_atfork(void (*)(void), void (*)(void), void (*)(void)) __attribute__((weak));
extern void *__dso_handle __attribute__((visibility("hidden"))); /* by which glibc forgets it at dlclose */

/* A child of fork has one thread and must not find the lock taken by another. */
__attribute__((constructor)) static void survive_fork(void) {
    if (__register_atfork)
        __register_atfork(take, give, give, &__dso_handle);
    else
        pthread_atfork(take, give, give);
}

void state_path(const char *file, char *path, unsigned long size) {
    if (!directory.path[0] || (size_t)snprintf(path, size, "%s/%s", directory.path, file) >= size) path[0] = 0;
}

/* The call of the kernel, because glibc's stat is one of version 2.33, and the
 * library is for every machine that NVIDIA's driver is for. */
int state_stat(const char *path, struct stat *found) {
    return (int)syscall(SYS_newfstatat, AT_FDCWD, path, found, 0);
}

int state_fstat(int fd, struct stat *found) { return (int)syscall(SYS_fstat, fd, found); }

unsigned long state_read(char *to, unsigned long room) {
    char path[PATH_MAX];
    state_path("state", path, sizeof path);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe must not hold the client up */
    trouble = fd < 0 ? errno : 0;
    if (fd < 0) return 0;
    size_t length = 0;
    for (;;) {
        ssize_t n = read(fd, to + length, room - length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        length += (size_t)n;
    }
    close(fd);
    to[length] = 0;
    return length;
}

unsigned long long *state_told(const struct gpu *g) { return now->gpus[g->index].told; }

/* remember takes over what was told of counters that nobody has set since: a writer
 * that was held up has counted them for an earlier moment than it was seen. */
static void remember(struct machine *next) {
    for (struct gpu *g = next->gpus; g < next->gpus + next->gpu_count; g++)
        for (const struct gpu *was = now->gpus; g->counted_from && was < now->gpus + now->gpu_count; was++)
            if (was->counted_from == g->counted_from && !strcmp(was->uuid, g->uuid)) memcpy(g->told, was->told, sizeof g->told);
}

/* load reads the state file. One that is missing or damaged changes nothing:
 * the last good state stays. */
static void load(const struct stat *found) {
    static char content[MAX_FILE + 1];
    size_t length = state_read(content, MAX_FILE);
    if (trouble) return;
    seen = *found; /* a damaged file is not read again before it changes */
    struct machine *next = now == machines ? machines + 1 : machines;
    if (length < MAX_FILE && strlen(content) == length && state_parse(content, next)) {
        remember(next);
        now = next;
        readable = 1;
    }
}

/* refresh looks for a newer file, at most once a millisecond: the file is
 * replaced, never rewritten, and its writers see to it that its time grows. */
static void refresh(int at_once) {
    char path[PATH_MAX];
    struct timespec t;
    struct stat found;
    clock_gettime(CLOCK_MONOTONIC, &t);
    long long passed = (t.tv_sec - looked.tv_sec) * 1000000000LL + t.tv_nsec - looked.tv_nsec;
    if (!at_once && passed < 1000000) return;
    looked = t;
    looked_us = now_us(); /* before it is looked at */
    state_path("state", path, sizeof path);
    trouble = !path[0] ? ENOENT : state_stat(path, &found) ? errno : 0;
    if (trouble) return;
    if (at_once || found.st_dev != seen.st_dev || found.st_ino != seen.st_ino || found.st_size != seen.st_size ||
        found.st_mtim.tv_sec != seen.st_mtim.tv_sec || found.st_mtim.tv_nsec != seen.st_mtim.tv_nsec)
        load(&found);
}

void state_expire(void) { looked.tv_sec = 0; }

void state_newest(void) { refresh(1); }

unsigned long long state_time(void) { return looked_us; }

const struct machine *state_machine(void) { return now; }

static struct nvmlDevice_st *handle_numbered(unsigned int n) { return &handles[(first_handle + n) % MAX_HANDLES]; }

struct nvmlDevice_st *handle_for(const char *uuid) {
    for (unsigned int i = 0; i < handle_count; i++)
        if (!strcmp(handle_numbered(i)->uuid, uuid)) return handle_numbered(i);
    if (handle_count == MAX_HANDLES) return NULL;
    struct nvmlDevice_st *handle = handle_numbered(handle_count++);
    strcpy(handle->uuid, uuid); /* the same size */
    return handle;
}

static int in_use(const struct nvmlDevice_st *handle) {
    uintptr_t at = (uintptr_t)handle - (uintptr_t)handles;
    if (at >= sizeof handles || at % sizeof *handle) return 0;
    return (at / sizeof *handle + MAX_HANDLES - first_handle) % MAX_HANDLES < handle_count;
}

static int stands_for(const char *uuid, const struct gpu *g, struct device *d) {
    const struct mig *mig = NULL;
    int found = !strcmp(g->uuid, uuid);
    for (unsigned int i = 0; !found && i < g->mig_count; i++) {
        mig = &g->migs[i];
        found = !strcmp(mig->uuid, uuid);
    }
    if (found) *d = (struct device){g, mig};
    return found;
}

nvmlReturn_t handle_device(struct nvmlDevice_st *handle, struct device *d) {
    *d = (struct device){NULL, NULL};
    if (!in_use(handle)) return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned int tried = 0; tried < now->gpu_count; tried++) {
        unsigned int place = (handle->place + tried) % now->gpu_count;
        if (!stands_for(handle->uuid, &now->gpus[place], d)) continue;
        handle->place = place;
        return d->gpu->lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
    }
    return NVML_ERROR_GPU_IS_LOST; /* it was taken away */
}

static void sleep_for(long long microseconds) {
    struct timespec t = {microseconds / 1000000, microseconds % 1000000 * 1000};
    while (nanosleep(&t, &t) && errno == EINTR) {
    }
}

/* sleep_open sleeps with the lock given back, and comes back with the newest state. */
static void sleep_open(long long microseconds) {
    give();
    sleep_for(microseconds);
    take();
    refresh(0);
}

nvmlReturn_t state_sleep(long long microseconds) {
    sleep_open(microseconds);
    return initialized ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

/* fault_of finds the fault that is meant for a function, if there is one. */
static const struct fault *fault_of(const struct faults *all, const char *function, int any) {
    for (const struct fault *f = all->list; f < all->list + all->count; f++)
        if (!strcmp(f->function, function) || (any && !strcmp(f->function, "*"))) return f;
    return NULL;
}

/* suffer lets a call suffer a fault, if there is one, and returns the answer that
 * it must give. The state may be another one afterwards. */
static nvmlReturn_t suffer(const struct fault *f) {
    if (!f) return NVML_SUCCESS;
    nvmlReturn_t answer = (nvmlReturn_t)f->code;
    if (f->hang) sleep_open(f->hang * 1000LL);
    return answer;
}

void call_any(struct call *c, const char *function) {
    memset(c, 0, sizeof *c);
    c->function = function;
    take();
}

nvmlReturn_t call_begin(struct call *c, const char *function, const nvmlDevice_t *handle) {
    call_any(c, function);
    if (!initialized) return NVML_ERROR_UNINITIALIZED;
    refresh(0);
    nvmlReturn_t found = NVML_SUCCESS, answer = NVML_SUCCESS;
    if (handle) {
        found = handle_device(handle->handle, &c->device);
        if (found != NVML_ERROR_INVALID_ARGUMENT) c->uuid = handle->handle->uuid;
    }
    if (now->faults.count || (c->device.gpu && c->device.gpu->faults.count)) {
        const struct fault *f = fault_of(&now->faults, function, 1);
        if (!f && c->device.gpu) f = fault_of(&c->device.gpu->faults, function, 1);
        answer = suffer(f);
        if (!initialized) return NVML_ERROR_UNINITIALIZED;
        if (handle) found = handle_device(handle->handle, &c->device); /* the state may be a newer one */
    }
    return answer ? answer : found;
}

nvmlReturn_t call_given(struct call *c, nvmlReturn_t answer, const nvmlDevice_t *given) {
    if (answer != NVML_SUCCESS) return answer;
    c->uuid = given->handle->uuid;
    handle_device(given->handle, &c->device);
    nvmlReturn_t fault = suffer(fault_of(&c->device.gpu->faults, c->function, 1));
    if (!initialized) return NVML_ERROR_UNINITIALIZED;
    return fault ? fault : handle_device(given->handle, &c->device);
}

/* path_from takes a path from the environment, but for a client that has more
 * rights than whoever has started it. One that is relative means what it
 * meant when it was first read, wherever the client has gone meanwhile. */
static void path_from(const char *variable, struct from_environment *to) {
    const char *value = getauxval(AT_SECURE) ? NULL : getenv(variable);
    char here[PATH_MAX] = "";
    if (!value) value = "";
    int relative = *value && *value != '/';
    if (relative && to->path[0] && !strcmp(value, to->value)) return;
    if (relative && !getcwd(here, sizeof here)) value = "";
    if ((size_t)snprintf(to->path, PATH_MAX, "%s%s%s", here, relative ? "/" : "", value) >= PATH_MAX) to->path[0] = 0;
    snprintf(to->value, PATH_MAX, "%s", value);
}

/* unreadable says what nvmlInit answers where there is no state that can be read. */
static nvmlReturn_t unreadable(void) {
    switch (trouble) {
    case ENOENT:
    case ENOTDIR: return NVML_ERROR_DRIVER_NOT_LOADED;
    case EACCES:
    case EPERM: return NVML_ERROR_NO_PERMISSION;
    case EMFILE:
    case ENFILE: return NVML_ERROR_INSUFFICIENT_RESOURCES;
    case ENOMEM: return NVML_ERROR_MEMORY;
    default: return NVML_ERROR_UNKNOWN; /* it is damaged, too */
    }
}

nvmlReturn_t call_init(struct call *c, const char *function) {
    call_any(c, function);
    if (initialized == 0) {
        readable = 0;
        path_from("FAKEGPU_STATE", &directory);
        path_from("FAKEGPU_TRACE", &trace);
    }
    refresh(1);
    if (!readable) return unreadable();
    nvmlReturn_t answer = suffer(fault_of(&now->faults, function, 0));
    if (answer == NVML_SUCCESS) answer = (nvmlReturn_t)now->init;
    if (answer == NVML_SUCCESS) initialized++;
    return answer;
}

nvmlReturn_t call_shutdown(struct call *c, const char *function) {
    call_any(c, function);
    if (!initialized) return NVML_ERROR_UNINITIALIZED;
    if (--initialized > 0) return NVML_SUCCESS;
    events_end();
    gpm_end();
    first_handle = (first_handle + handle_count) % MAX_HANDLES;
    handle_count = 0;
    return NVML_SUCCESS;
}

/* log_call appends a line to the trace. The file is opened each time, because a
 * client may close or reuse descriptors that it did not open. */
static void log_call(const struct call *c, nvmlReturn_t answer) {
    char line[256];
    struct timespec t;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &parts);
    size_t length = strftime(line, sizeof line, "%FT%T", &parts);
    length += (size_t)snprintf(line + length, sizeof line - length, ".%06ldZ %d %s(%s) = %d\n", t.tv_nsec / 1000, (int)getpid(),
                               c->function, c->uuid ? c->uuid : "", (int)answer);
    int before = errno, fd = open(trace.path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0666);
    if (fd >= 0) {
        ssize_t written = write(fd, line, length);
        (void)written; /* the trace must not disturb the client */
        close(fd);
    }
    errno = before;
}

nvmlReturn_t call_end(struct call *c, nvmlReturn_t answer) {
    if (trace.path[0]) log_call(c, answer);
    give();
    return answer;
}

nvmlReturn_t give_text(char *to, unsigned int length, const char *from) {
    NEED(to);
    if (length <= strlen(from)) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(to, from);
    return NVML_SUCCESS;
}

nvmlReturn_t give_count(unsigned int *count, const void *list, unsigned int have) {
    NEED(count);
    unsigned int room = list ? *count : 0;
    *count = have;
    return room < have ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

unsigned long long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (unsigned long long)t.tv_sec * 1000000 + (unsigned long long)t.tv_nsec / 1000;
}
