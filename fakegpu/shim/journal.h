/* The journal of events, as a reader goes through it. */
#ifndef FAKEGPU_JOURNAL_H
#define FAKEGPU_JOURNAL_H

#include "state.h"

#include <sys/stat.h>

/* A place in the journal, of which there is another one when the directory was
 * replaced: its first line tells it from others, even if it is at the same inode
 * of the disk. */
struct place {
    struct stat seen;  /* the file when it was looked at last; all zero for none */
    char id[24];       /* its first line, if that is one that tells it */
    unsigned int book; /* counts the journals that there were */
    long long read;    /* how much of it was read */
    int all;           /* nothing more can be read of what was seen */
};

/* A line of the journal. */
struct entry {
    char uuid[TEXT];
    unsigned long long type, data, time; /* microseconds since 1970; 0 if it is not said */
    unsigned int gi, ci;                 /* NO_INSTANCE for none */
    long long at;                        /* where it is */
};

/* journal_end goes to the end of the journal that there is now. */
void journal_end(struct place *p);

/* journal_next reads the next line that is an event, and returns 0 where there
 * is none. One that is not understood is passed over, one that has no end yet is
 * left for later. */
int journal_next(struct place *p, struct entry *e);

/* journal_look takes notice of a journal that has replaced the last one; its
 * beginning is then the place. */
void journal_look(struct place *p);

#endif
