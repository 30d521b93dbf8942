/* The journal of events. It is read anew each time: that needs no thread, no
 * descriptor that stays open, and works on every file system. */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>

static int same_file(const struct stat *a, const struct stat *b) { return a->st_dev == b->st_dev && a->st_ino == b->st_ino; }

static int unchanged(const struct stat *a, const struct stat *b) {
    return same_file(a, b) && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static ssize_t read_at(int fd, char *to, size_t size, long long from) {
    ssize_t n;
    do n = pread(fd, to, size, from);
    while (n < 0 && errno == EINTR);
    return n;
}

/* identify reads the first line of a journal, "journal" and a number. */
static void identify(int fd, char *id, size_t size) {
    static const char title[] = "journal ";
    char line[64];
    ssize_t n = read_at(fd, line, sizeof line - 1, 0);
    line[n < 0 ? 0 : n] = 0;
    size_t length = strcspn(line, "\n");
    int titled = !strncmp(line, title, sizeof title - 1) && line[length] == '\n' && length - (sizeof title - 1) < size;
    if (titled) line[length] = 0;
    strcpy(id, titled ? line + sizeof title - 1 : "");
}

/* open_new opens the journal if there is something in it that was not seen, and
 * returns -1 otherwise. */
static int open_new(struct place *p) {
    char path[PATH_MAX], id[sizeof p->id];
    struct stat now, opened;
    state_path("events", path, sizeof path);
    int fd = -1, missing = !path[0] || state_stat(path, &now);
    if (missing) memset(&now, 0, sizeof now);
    if (unchanged(&now, &p->seen) && p->all) return -1;
    if (!missing) {
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe must not hold the client up */
        if (fd < 0 || state_fstat(fd, &opened)) {
            if (fd >= 0) close(fd);
            return -1; /* it is tried again */
        }
        now = opened;
        identify(fd, id, sizeof id);
    } else
        id[0] = 0;
    int same = same_file(&now, &p->seen) && !strcmp(id, p->id);
    if (!same || now.st_size < p->read) { /* one that was cut goes on from there: what was told stays told */
        p->book++;
        p->read = same && *id ? now.st_size : 0;
        strcpy(p->id, id); /* the same size */
    }
    p->seen = now;
    p->all = missing;
    return fd;
}

void journal_look(struct place *p) {
    int fd = open_new(p);
    if (fd >= 0) close(fd);
}

void journal_end(struct place *p) {
    journal_look(p);
    p->read = p->seen.st_size;
}

/* parse reads UUID TYPE DATA, which may be all, or the ids of the instances and
 * the time come as well. */
static int parse(const char *line, struct entry *e) {
    char more;
    int n = sscanf(line, "%95s %llu %llu %u %u %llu%c", e->uuid, &e->type, &e->data, &e->gi, &e->ci, &e->time, &more);
    if (n == 6) return 1;
    e->gi = e->ci = NO_INSTANCE;
    e->time = 0;
    return n == 3 && sscanf(line, "%*s %*u %*u%c", &more) != 1;
}

int journal_next(struct place *p, struct entry *e) {
    char buffer[4096 + 1];
    int fd = open_new(p), found = 0;
    while (fd >= 0 && !found) {
        size_t room = sizeof buffer - 1, left = (size_t)(p->seen.st_size - p->read); /* a device may have no end */
        ssize_t length = read_at(fd, buffer, left < room ? left : room, p->read);
        if (length <= 0) {
            p->all = 1;
            break;
        }
        buffer[length] = 0;
        char *line = buffer, *end;
        while (!found && (end = memchr(line, '\n', (size_t)(buffer + length - line)))) {
            e->at = p->read;
            *end = 0;
            p->read += end + 1 - line;
            found = parse(line, e);
            line = end + 1;
        }
        if (line == buffer) { /* no line ended */
            p->all = length < (ssize_t)sizeof buffer - 1;
            if (p->all) break;
            p->read += length; /* and none is that long: damage */
        }
    }
    if (fd >= 0) close(fd);
    return found;
}
