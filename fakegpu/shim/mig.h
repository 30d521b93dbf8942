/* The kinds of GPU instances, as NVIDIA's MIG user guide has them. */
#ifndef FAKEGPU_MIG_H
#define FAKEGPU_MIG_H

#include "state.h"

/* The engines of an instance beside its multiprocessors. */
struct engines { unsigned int copy, decoders, jpeg, ofa; };

/* A kind of GPU instance; mig.go has the same. The memory is in eighths. */
struct profile {
    unsigned int id, number; /* as nvidia-smi shows it, and NVML_GPU_INSTANCE_PROFILE_* */
    unsigned int slices, eighths, instances;
    const char *media; /* the end of its name */
};

/* profile_of finds the kind of the instance that a MIG device is in. */
const struct profile *profile_of(const struct mig *m);

/* profile_engines tells what a kind has on a GPU. */
struct engines profile_engines(const struct gpu *g, const struct profile *p);

/* profile_name gives its short name, as 1g.10gb. */
void profile_name(const struct gpu *g, const struct profile *p, char *to, unsigned long size);

/* mig_name gives the full name of a MIG device. */
void mig_name(const struct device *d, char *to, unsigned long size);

#endif
