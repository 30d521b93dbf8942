#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A handle stands for a UUID for as long as the process lives, whatever happens
 * to the GPU. So there are more of them than GPUs. */
struct nvmlDevice_st {
    char uuid[TEXT];
};
enum { MAX_HANDLES = 1024, MAX_FILE = 256 * 1024 };

struct snapshot {
    struct machine machine;
    int init; /* what nvmlInit answers */
    struct device devices[MAX_DEVICES];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int initialized;            /* how many nvmlInit were not taken back */
static char path[PATH_MAX];        /* of the state file; empty for none */
static struct snapshot now, next;  /* next is only the parser's work space */
static int readable;               /* whether now was ever read from path */
static struct stat seen;           /* the file that now was read from */
static struct timespec looked;     /* when the file was looked at last */
static struct nvmlDevice_st handles[MAX_HANDLES];
static unsigned int handle_count;

static void take(void) { pthread_mutex_lock(&lock); }
static void give(void) { pthread_mutex_unlock(&lock); }

/* A child of fork has one thread and must not find the lock taken by another. */
__attribute__((constructor)) static void survive_fork(void) { pthread_atfork(take, give, give); }

static int number(const char *text, unsigned long long limit, unsigned long long *value) {
    char *end;
    if (*text < '0' || *text > '9') return 0;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return *end == 0 && errno == 0 && *value <= limit;
}

static int text(const char *value, char *to) {
    size_t length = strlen(value);
    if (length == 0 || length >= TEXT) return 0;
    memcpy(to, value, length + 1);
    return 1;
}

/* set takes one line of the file. Nothing is ignored: a line that is not
 * understood means that the file is damaged, or newer than this library. */
static int set(struct snapshot *s, const char *key, const char *value) {
    unsigned long long n = 0;
    struct device *d = s->machine.count ? &s->devices[s->machine.count - 1] : NULL;

    if (!strcmp(key, "driver")) return text(value, s->machine.driver);
    if (!strcmp(key, "nvml")) return text(value, s->machine.nvml);
    if (!strcmp(key, "cuda")) return number(value, INT_MAX, &n) && (s->machine.cuda = (int)n, 1);
    if (!strcmp(key, "init")) return number(value, INT_MAX, &n) && (s->init = (int)n, 1);
    if (!strcmp(key, "gpu")) {
        if (s->machine.count == MAX_DEVICES) return 0;
        d = &s->devices[s->machine.count];
        memset(d, 0, sizeof *d);
        d->index = s->machine.count++;
        return text(value, d->uuid);
    }
    if (!d) return 0;
    if (!strcmp(key, "name")) return text(value, d->name);
    if (!strcmp(key, "serial")) return text(value, d->serial);

    const struct { const char *key; unsigned int *field; } numbers[] = {
        {"brand", &d->brand}, {"architecture", &d->architecture}, {"cc-major", &d->cc_major}, {"cc-minor", &d->cc_minor},
        {"pci-device", &d->pci_device}, {"pci-subsystem", &d->pci_subsystem},
        {"temperature", &d->temperature}, {"power", &d->power}, {"ecc", &d->ecc},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(key, numbers[i].key)) return number(value, UINT_MAX, &n) && (*numbers[i].field = (unsigned int)n, 1);
    if (!strcmp(key, "bus")) return number(value, 0xff, &n) && (d->bus = (unsigned int)n, 1);
    if (!strcmp(key, "memory")) return number(value, ULLONG_MAX, &d->memory);
    if (!strcmp(key, "memory-used")) return number(value, ULLONG_MAX, &d->memory_used);
    if (!strcmp(key, "memory-reserved")) return number(value, ULLONG_MAX, &d->memory_reserved);
    return 0;
}

/* parse reads "key value" lines; the last one is "end", so that a file that was
 * cut is not taken for a machine with fewer GPUs. */
static int parse(char *content, struct snapshot *s) {
    memset(s, 0, sizeof *s);
    for (char *line = content, *rest; *line; line = rest) {
        rest = strchr(line, '\n');
        if (!rest) return 0;
        *rest++ = 0;
        if (!strcmp(line, "end")) {
            if (*rest || !s->machine.driver[0] || !s->machine.nvml[0]) return 0;
            for (unsigned int i = 0; i < s->machine.count; i++) {
                const struct device *d = &s->devices[i];
                if (!d->name[0] || d->memory_used > d->memory || d->memory_reserved > d->memory - d->memory_used) return 0;
                for (unsigned int j = 0; j < i; j++)
                    if (!strcmp(s->devices[j].uuid, d->uuid)) return 0;
            }
            return 1;
        }
        char *value = strchr(line, ' ');
        if (!value) return 0;
        *value++ = 0;
        if (!set(s, line, value)) return 0;
    }
    return 0;
}

/* load reads the file into now. A file that is missing or damaged changes
 * nothing: the last good state stays. */
static void load(const struct stat *found) {
    static char content[MAX_FILE + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    size_t length = 0;
    for (;;) {
        ssize_t n = read(fd, content + length, MAX_FILE - length);
        if (n <= 0) break;
        length += (size_t)n;
    }
    close(fd);
    content[length] = 0;
    seen = *found; /* a damaged file is not read again before it changes */
    if (length < MAX_FILE && strlen(content) == length && parse(content, &next)) {
        now = next;
        readable = 1;
    }
}

/* refresh looks for a newer file, at most once a millisecond: the file is
 * replaced, never rewritten, so its inode or time tells. */
static void refresh(int at_once) {
    struct timespec t;
    struct stat found;
    clock_gettime(CLOCK_MONOTONIC, &t);
    long long passed = (t.tv_sec - looked.tv_sec) * 1000000000LL + t.tv_nsec - looked.tv_nsec;
    if (!at_once && passed < 1000000) return;
    looked = t;
    if (!path[0] || stat(path, &found)) return;
    if (at_once || found.st_ino != seen.st_ino || found.st_size != seen.st_size ||
        found.st_mtim.tv_sec != seen.st_mtim.tv_sec || found.st_mtim.tv_nsec != seen.st_mtim.tv_nsec)
        load(&found);
}

nvmlReturn_t state_init(void) {
    const char *dir = getenv("FAKEGPU_STATE");
    nvmlReturn_t answer = NVML_SUCCESS;
    take();
    if (initialized == 0) {
        readable = 0;
        path[0] = 0;
        if (dir && *dir && (size_t)snprintf(path, sizeof path, "%s/state", dir) >= sizeof path) path[0] = 0;
    }
    refresh(1);
    if (!path[0] || (!readable && access(path, F_OK)))
        answer = NVML_ERROR_DRIVER_NOT_LOADED;
    else if (!readable)
        answer = NVML_ERROR_UNKNOWN;
    else
        answer = (nvmlReturn_t)now.init;
    if (answer == NVML_SUCCESS) initialized++;
    give();
    return answer;
}

nvmlReturn_t state_shutdown(void) {
    take();
    nvmlReturn_t answer = initialized ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
    if (initialized) initialized--;
    give();
    return answer;
}

/* enter takes the lock, and keeps it only if the library is initialized. */
static nvmlReturn_t enter(void) {
    take();
    if (initialized) {
        refresh(0);
        return NVML_SUCCESS;
    }
    give();
    return NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t state_machine(struct machine *m) {
    nvmlReturn_t r = enter();
    if (r) return r;
    *m = now.machine;
    give();
    return NVML_SUCCESS;
}

nvmlReturn_t state_device(nvmlDevice_t handle, struct device *d) {
    nvmlReturn_t r = enter();
    if (r) return r;
    r = NVML_ERROR_INVALID_ARGUMENT;
    if (handle.handle >= handles && handle.handle < handles + handle_count) {
        r = NVML_ERROR_GPU_IS_LOST; /* its GPU was taken away */
        for (unsigned int i = 0; i < now.machine.count; i++) {
            if (!strcmp(now.devices[i].uuid, handle.handle->uuid)) {
                *d = now.devices[i];
                r = NVML_SUCCESS;
                break;
            }
        }
    }
    give();
    return r;
}

/* handle_for must be called with the lock held. */
static struct nvmlDevice_st *handle_for(const char *uuid) {
    for (unsigned int i = 0; i < handle_count; i++)
        if (!strcmp(handles[i].uuid, uuid)) return &handles[i];
    if (handle_count == MAX_HANDLES) return NULL;
    strcpy(handles[handle_count].uuid, uuid); /* the same size */
    return &handles[handle_count++];
}

nvmlReturn_t state_find(int (*matches)(const struct device *, const void *), const void *wanted, nvmlDevice_t *handle) {
    nvmlReturn_t r = enter();
    if (r) return r;
    r = NVML_ERROR_NOT_FOUND;
    for (unsigned int i = 0; i < now.machine.count; i++) {
        if (matches(&now.devices[i], wanted)) {
            handle->handle = handle_for(now.devices[i].uuid);
            r = handle->handle ? NVML_SUCCESS : NVML_ERROR_MEMORY;
            break;
        }
    }
    give();
    return r;
}

nvmlReturn_t copy_text(char *to, unsigned int length, const char *from) {
    if (!to) return NVML_ERROR_INVALID_ARGUMENT;
    if (length <= strlen(from)) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(to, from);
    return NVML_SUCCESS;
}
