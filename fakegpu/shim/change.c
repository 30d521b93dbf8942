/* What root sets through NVML is written into the state, as the commands do it:
 * under their lock, and in one step. */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1024 * 1024, LOOK_US = 2000, PATIENCE_US = 10000000 };

static nvmlReturn_t failed(int error) {
    switch (error) {
    case EACCES:
    case EPERM:
    case EROFS: return NVML_ERROR_NO_PERMISSION;
    case ENOMEM: return NVML_ERROR_MEMORY;
    case EMFILE:
    case ENFILE:
    case ENOSPC: return NVML_ERROR_INSUFFICIENT_RESOURCES;
    default: return NVML_ERROR_UNKNOWN;
    }
}

/* current says whether a lock is still the file of its name. */
static int current(int lock, const char *path) {
    struct stat held, named;
    return !state_fstat(lock, &held) && !state_stat(path, &named) && held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

/* lock waits for other writers, and lets other calls in meanwhile. */
static nvmlReturn_t lock(int *fd) {
    char path[PATH_MAX];
    for (int waited = 0;; waited += LOOK_US) {
        state_path(".lock", path, sizeof path);
        *fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (*fd < 0) return failed(errno);
        int busy = flock(*fd, LOCK_EX | LOCK_NB);
        if (!busy && current(*fd, path)) return NVML_SUCCESS;
        close(*fd);
        if (waited >= PATIENCE_US) return NVML_ERROR_IN_USE;
        nvmlReturn_t r = state_sleep(LOOK_US);
        if (r) return r;
    }
}

/* edit copies the text of a state with the changes of one GPU, and returns how
 * long it is, or 0 if the GPU is not there or the room does not do. */
static size_t edit(const char *from, char *to, const char *uuid, const struct change *changes, unsigned int count) {
    size_t length = 0, here = 0, found = 0;
    for (const char *line = from, *end; *line && (end = strchr(line, '\n')); line = end + 1) {
        size_t size = (size_t)(end - line) + 1;
        unsigned int i = 0;
        if (!strncmp(line, "gpu ", 4)) {
            here = size == strlen(uuid) + 5 && !strncmp(line + 4, uuid, size - 5);
            found |= here;
        } else
            for (; here && i < count; i++)
                if (!strncmp(line, changes[i].key, strlen(changes[i].key)) && line[strlen(changes[i].key)] == ' ') break;
        if (here && i < count && strncmp(line, "gpu ", 4)) continue; /* it is said anew */
        if (length + size + 1024 > ROOM) return 0;
        memcpy(to + length, line, size);
        length += size;
        for (i = 0; here && !strncmp(line, "gpu ", 4) && i < count; i++)
            length += (size_t)snprintf(to + length, 128, "%s %llu\n", changes[i].key, changes[i].value);
    }
    return found ? length : 0;
}

static int write_all(int fd, const char *text, size_t length) {
    while (length > 0) {
        ssize_t n = write(fd, text, length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        text += n;
        length -= (size_t)n;
    }
    return 0;
}

/* replace puts a text in the place of the state. Its time of change grows. */
static nvmlReturn_t replace(const char *text, size_t length) {
    char path[PATH_MAX], next[PATH_MAX];
    struct stat before;
    struct timespec times[2];
    state_path("state", path, sizeof path);
    state_path(".state", next, sizeof next);
    if (state_stat(path, &before)) return failed(errno);
    clock_gettime(CLOCK_REALTIME, &times[0]);
    if (times[0].tv_sec < before.st_mtim.tv_sec || (times[0].tv_sec == before.st_mtim.tv_sec && times[0].tv_nsec <= before.st_mtim.tv_nsec)) {
        times[0] = before.st_mtim;
        times[0].tv_nsec++;
        times[0].tv_sec += times[0].tv_nsec / 1000000000;
        times[0].tv_nsec %= 1000000000;
    }
    times[1] = times[0];
    unlink(next); /* what a writer that was killed has left, or a link that somebody has put there */
    int fd = open(next, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return failed(errno);
    int bad = write_all(fd, text, length) ? errno : 0;
    /* Who could read and write it still can, whatever the client's umask is. */
    int owned = fchown(fd, before.st_uid, before.st_gid);
    (void)owned; /* as far as it may */
    if (!bad && (fchmod(fd, before.st_mode & 07777) || futimens(fd, times) || rename(next, path))) bad = errno;
    close(fd);
    return bad ? failed(bad) : NVML_SUCCESS;
}

nvmlReturn_t state_change(const struct gpu *g, maker *make, unsigned int value) {
    static char before[ROOM + 1], after[ROOM];
    struct change changes[MAX_CHANGES];
    struct device d;
    char uuid[TEXT];
    int fd;
    if (geteuid()) return NVML_ERROR_NO_PERMISSION;
    strcpy(uuid, g->uuid); /* the same size */
    nvmlReturn_t r = lock(&fd);
    if (r) return r;
    state_newest();
    struct nvmlDevice_st *handle = handle_for(uuid);
    r = handle ? handle_device(handle, &d) : NVML_ERROR_MEMORY;
    if (r == NVML_SUCCESS) {
        size_t length = state_read(before, ROOM) ? edit(before, after, uuid, changes, make(d.gpu, value, changes)) : 0;
        r = length ? replace(after, length) : NVML_ERROR_GPU_IS_LOST;
    }
    close(fd); /* which gives the lock back */
    state_expire();
    return r;
}
