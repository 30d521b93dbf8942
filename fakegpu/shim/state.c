/* The text of a state file. */
#include "state.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* word cuts the next word off a line, and returns NULL where there is none. */
static char *word(char **line) {
    char *start = *line, *end;
    if (!start || !*start || *start == ' ') return NULL;
    end = strchr(start, ' ');
    if (end) *end++ = 0;
    *line = end;
    return start;
}

static int number(const char *text, unsigned long long largest, unsigned long long *value) {
    char *end;
    if (!text || *text < '0' || *text > '9') return 0;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return *end == 0 && errno == 0 && *value <= largest;
}

static int small(const char *text, unsigned long long largest, unsigned int *value) {
    unsigned long long n;
    if (!number(text, largest, &n)) return 0;
    *value = (unsigned int)n;
    return 1;
}

static int text(const char *value, char *to) {
    size_t length = value ? strlen(value) : 0;
    if (length == 0 || length >= TEXT) return 0;
    memcpy(to, value, length + 1);
    return 1;
}

static int fault(struct faults *all, char *line) {
    if (all->count == MAX_FAULTS) return 0;
    struct fault *f = &all->list[all->count++];
    return text(word(&line), f->function) && small(word(&line), 999, &f->code) && small(word(&line), 3600000, &f->hang) && !line;
}

static int process(struct gpu *g, char *line) {
    static const char *const types[] = {[COMPUTE] = "compute", [GRAPHICS] = "graphics", [MPS] = "mps"};
    if (g->process_count == MAX_PROCESSES) return 0;
    struct process *p = &g->processes[g->process_count++];
    if (!small(word(&line), 0x7fffffff, &p->pid)) return 0;
    const char *type = word(&line);
    unsigned int i = 0;
    while (i < 3 && (!type || strcmp(types[i], type))) i++;
    if (i == 3) return 0;
    p->type = i;
    return number(word(&line), LARGE, &p->memory) && small(word(&line), 100, &p->sm) && text(line, p->name);
}

static int mig(struct gpu *g, char *line) {
    if (g->mig_count == MAX_MIGS) return 0;
    struct mig *d = &g->migs[g->mig_count++];
    return text(word(&line), d->uuid) && small(word(&line), 255, &d->gi) && small(word(&line), 255, &d->ci) &&
           small(word(&line), 7, &d->slices) && small(word(&line), 7, &d->compute_slices) && small(word(&line), SMALL, &d->sms) &&
           number(word(&line), LARGE, &d->memory) && small(word(&line), 255, &d->profile) && small(word(&line), 7, &d->start) && !line;
}

static int new_gpu(struct machine *m, const char *uuid) {
    if (m->gpu_count == MAX_GPUS) return 0;
    struct gpu *g = &m->gpus[m->gpu_count];
    memset(g, 0, sizeof *g);
    g->index = m->gpu_count++;
    return text(uuid, g->uuid);
}

/* number_of finds the field of a key. Files have their keys in the order of
 * NUMBERS, so the search goes on where the last one ended. */
static unsigned long long *number_of(struct gpu *g, const char *key, unsigned long long *largest) {
    static const struct { const char *key; size_t field; unsigned long long largest; } numbers[] = {
#define ROW(key, largest) {#key, offsetof(struct gpu, key), largest},
        NUMBERS(ROW)
#undef ROW
    };
    enum { COUNT = sizeof numbers / sizeof *numbers };
    static unsigned int next;
    for (unsigned int tried = 0; tried < COUNT; tried++) {
        unsigned int i = (next + tried) % COUNT;
        if (strcmp(numbers[i].key, key)) continue;
        next = i + 1;
        *largest = numbers[i].largest;
        return (unsigned long long *)((char *)g + numbers[i].field);
    }
    return NULL;
}

/* set takes one line of the file. Nothing is ignored: a line that is not
 * understood means that the file is damaged, or newer than this library. */
static int set(struct machine *m, const char *key, char *value) {
    if (!strcmp(key, "gpu")) return new_gpu(m, value);
    if (!strcmp(key, "fault")) return fault(m->gpu_count ? &m->gpus[m->gpu_count - 1].faults : &m->faults, value);
    if (m->gpu_count == 0) {
        if (!strcmp(key, "driver")) return text(value, m->driver);
        if (!strcmp(key, "nvml")) return text(value, m->nvml);
        if (!strcmp(key, "cuda")) return small(value, 0x7fffffff, &m->cuda);
        if (!strcmp(key, "init")) return small(value, 999, &m->init);
        return 0;
    }
    struct gpu *g = &m->gpus[m->gpu_count - 1];
    if (!strcmp(key, "name")) return text(value, g->name);
    if (!strcmp(key, "serial")) return text(value, g->serial);
    if (!strcmp(key, "vbios")) return text(value, g->vbios);
    if (!strcmp(key, "part_number")) return text(value, g->part_number);
    if (!strcmp(key, "inforom_image")) return text(value, g->inforom_image);
    if (!strcmp(key, "inforom_ecc")) return text(value, g->inforom_ecc);
    if (!strcmp(key, "inforom_oem")) return text(value, g->inforom_oem);
    if (!strcmp(key, "process")) return process(g, value);
    if (!strcmp(key, "mig")) return mig(g, value);
    unsigned long long largest, *field = number_of(g, key, &largest);
    return field && number(value, largest, field);
}

static int plausible(const struct machine *m) {
    if (!m->driver[0] || !m->nvml[0]) return 0;
    for (unsigned int i = 0; i < m->gpu_count; i++) {
        const struct gpu *g = &m->gpus[i];
        if (!g->name[0] || (g->mig_count && !g->mig_mode)) return 0;
        if (g->memory_used > g->memory || g->memory_reserved > g->memory - g->memory_used || g->bar1_used > g->bar1) return 0;
        for (unsigned int j = 0; j < i; j++)
            if (!strcmp(m->gpus[j].uuid, g->uuid)) return 0;
    }
    return 1;
}

/* The file has "key value" lines; the last one is "end", so that a file that
 * was cut is not taken for a machine with fewer GPUs. */
int state_parse(char *line, struct machine *m) {
    memset(m, 0, offsetof(struct machine, gpus)); /* new_gpu clears the rest */
    for (char *rest; *line; line = rest) {
        rest = strchr(line, '\n');
        if (!rest) return 0;
        *rest++ = 0;
        if (!strcmp(line, "end")) return !*rest && plausible(m);
        char *value = strchr(line, ' ');
        if (!value) return 0;
        *value++ = 0;
        if (!set(m, line, value)) return 0;
    }
    return 0;
}
