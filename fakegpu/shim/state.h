/* The state of the fake machine: read from a directory, the same for every
 * function of the library. */
#ifndef FAKEGPU_STATE_H
#define FAKEGPU_STATE_H

#define NVML_NO_UNVERSIONED_FUNC_DEFS /* declare old versions under their own names */
#include <nvml.h>

enum { MAX_GPUS = 64, MAX_PROCESSES = 32, MAX_MIGS = 7, MAX_FAULTS = 32, MAX_LINKS = 18, TEXT = 96 };

/* The numbers that the state file has for a GPU; N(key, largest value). The
 * README says what they mean. */
#define PERCENT 100
#define FLAG 1
#define SMALL 0xffffffffULL
#define LARGE 0xffffffffffffffffULL
#define NUMBERS(N)                                                                                                              \
    N(brand, SMALL) N(architecture, SMALL) N(cc_major, SMALL) N(cc_minor, SMALL) N(bus, 0xff) N(minor, SMALL)                   \
    N(pci_device, SMALL) N(pci_subsystem, SMALL) N(numa, 63) N(pcie_switch, SMALL) N(module, SMALL)                             \
    N(cores, SMALL) N(bus_width, SMALL) N(sms, SMALL)                                                                           \
    N(memory, LARGE) N(memory_used, LARGE) N(memory_reserved, LARGE) N(bar1, LARGE) N(bar1_used, LARGE)                         \
    N(utilization_gpu, PERCENT) N(utilization_memory, PERCENT) N(utilization_encoder, PERCENT)                                  \
    N(utilization_decoder, PERCENT) N(utilization_jpeg, PERCENT) N(utilization_ofa, PERCENT)                                    \
    N(temperature, SMALL) N(temperature_memory, SMALL) N(temperature_slowdown, SMALL) N(temperature_shutdown, SMALL)            \
    N(temperature_max, SMALL) N(fans, 16) N(fan_speed, PERCENT)                                                                 \
    N(power, SMALL) N(power_limit, SMALL) N(power_default, SMALL) N(power_min, SMALL) N(power_max, SMALL)                       \
    N(energy, LARGE) N(pstate, 15)                                                                                              \
    N(clock_graphics, SMALL) N(clock_sm, SMALL) N(clock_memory, SMALL) N(clock_video, SMALL)                                    \
    N(max_clock_graphics, SMALL) N(max_clock_sm, SMALL) N(max_clock_memory, SMALL) N(max_clock_video, SMALL)                    \
    N(clock_reasons, LARGE)                                                                                                     \
    N(pcie_gen, 6) N(pcie_gen_max, 6) N(pcie_width, 32) N(pcie_width_max, 32) N(pcie_tx, SMALL) N(pcie_rx, SMALL)               \
    N(pcie_replays, SMALL) N(persistence, FLAG) N(compute_mode, 3) N(ecc, FLAG)                                                 \
    N(ecc_dram_corrected_volatile, LARGE) N(ecc_dram_uncorrected_volatile, LARGE)                                               \
    N(ecc_dram_corrected_aggregate, LARGE) N(ecc_dram_uncorrected_aggregate, LARGE)                                             \
    N(ecc_sram_corrected_volatile, LARGE) N(ecc_sram_uncorrected_volatile, LARGE)                                               \
    N(ecc_sram_corrected_aggregate, LARGE) N(ecc_sram_uncorrected_aggregate, LARGE)                                             \
    N(remap_corrected, SMALL) N(remap_uncorrected, SMALL) N(remap_pending, FLAG) N(remap_failed, FLAG)                          \
    N(retired_single, 64) N(retired_double, 64) N(retired_pending, FLAG) N(lost, FLAG) N(recovery_action, 7)                    \
    N(nvlinks, MAX_LINKS) N(nvlink_version, SMALL) N(mig_mode, FLAG) N(mig_max, MAX_MIGS)                                       \
    N(mig_sms_1g, SMALL) N(mig_sms_1g_double, SMALL) N(mig_sms_2g, SMALL) N(mig_sms_3g, SMALL) N(mig_sms_4g, SMALL)             \
    N(mig_sms_7g, SMALL)                                                                                                        \
    N(mig_mb_1g, SMALL) N(mig_mb_1g_double, SMALL) N(mig_mb_2g, SMALL) N(mig_mb_3g, SMALL) N(mig_mb_4g, SMALL)                  \
    N(mig_mb_7g, SMALL)                                                                                                         \
    N(temperature_memory_max, SMALL) N(app_clock_graphics, SMALL) N(app_clock_memory, SMALL)                                    \
    N(clock_lowest, SMALL) N(clock_half_steps, SMALL) N(low_clock_memory, SMALL) N(low_clock_graphics, SMALL)                   \
    N(pcie_gen_device, 6) N(remap_banks, SMALL) N(addressing, 3) N(c2c, 2) N(fabric, 3)                                         \
    N(accounting, FLAG) N(violation_power, LARGE) N(violation_thermal, LARGE) N(since, LARGE) N(clock_lowest_video, SMALL) \
    N(counted_from, LARGE)

/* A fault makes a function answer late, or wrong, or both. */
struct fault {
    char function[TEXT]; /* "*" for all */
    unsigned int code, hang;
};

struct faults {
    unsigned int count;
    struct fault list[MAX_FAULTS];
};

struct process {
    unsigned int pid;
    enum { COMPUTE, GRAPHICS, MPS } type;
    unsigned long long memory; /* bytes */
    unsigned int sm;           /* percent */
    char name[TEXT];
};

/* A MIG device: one compute instance of a GPU instance. */
struct mig {
    char uuid[TEXT];
    unsigned int gi, ci;
    unsigned int slices, compute_slices, sms;
    unsigned long long memory;   /* bytes */
    unsigned int profile, start; /* id of the GPU instance's profile, and its first eighth */
};

/* The counters that go on while a GPU works: millijoules, and the nanoseconds for
 * which its power or its heat has slowed it down. */
enum counter { ENERGY, CAPPED, HOT, COUNTERS };

struct gpu {
    char uuid[TEXT], name[TEXT], serial[TEXT], vbios[TEXT], part_number[TEXT], inforom_image[TEXT], inforom_ecc[TEXT], inforom_oem[TEXT];
    unsigned int index; /* place in the file, which is NVML's order */
#define FIELD(key, largest) unsigned long long key;
    NUMBERS(FIELD)
#undef FIELD
    unsigned int process_count, mig_count;
    struct process processes[MAX_PROCESSES];
    struct mig migs[MAX_MIGS];
    struct faults faults; /* of calls about it */
    unsigned long long told[COUNTERS]; /* what this process was told of each */
};

/* The instance of an event, or of a process, of a GPU that is not divided. */
enum { NO_INSTANCE = 0xffffffff };

/* What a handle stands for: a GPU, or one of its MIG devices. */
struct device {
    const struct gpu *gpu;
    const struct mig *mig; /* NULL for the whole GPU */
};

struct machine {
    char driver[TEXT], nvml[TEXT];
    unsigned int cuda, init; /* init is what nvmlInit answers */
    unsigned int gpu_count;
    struct faults faults; /* of all calls */
    struct gpu gpus[MAX_GPUS];
};

/* state_parse reads the text of a state file, which it changes; it returns
 * whether the text was good. */
int state_parse(char *text, struct machine *m);

/* A call holds the lock of the library from its beginning to its end; what it
 * points to is valid until then, or until call_sleep. */
struct call {
    const char *function;
    const char *uuid; /* for the trace; NULL if the call is not about a GPU */
    struct device device;
};

/* call_any starts a call that works at any time; call_end must follow. */
void call_any(struct call *c, const char *function);

/* call_begin starts a call that is about a GPU or, without a handle, about the
 * machine. Another answer than NVML_SUCCESS is that of the function; call_end
 * must follow in any case, and returns the answer. */
nvmlReturn_t call_begin(struct call *c, const char *function, const nvmlDevice_t *handle);
nvmlReturn_t call_init(struct call *c, const char *function);
nvmlReturn_t call_shutdown(struct call *c, const char *function);
nvmlReturn_t call_end(struct call *c, nvmlReturn_t answer);

/* call_given ends what gives a handle: it is about the GPU that it has found,
 * and suffers the faults of that as well. */
nvmlReturn_t call_given(struct call *c, nvmlReturn_t answer, const nvmlDevice_t *given);

/* The rest is for the models, which run inside of a call. */

/* state_machine returns the newest state, at most a millisecond old. */
const struct machine *state_machine(void);

/* state_expire makes the next call look for a newer state, however short ago
 * the last one has: who hears of an event finds the state that caused it. */
void state_expire(void);

/* state_path names a file of the state directory. */
void state_path(const char *file, char *path, unsigned long size);

/* state_read reads the text of the state, with a zero behind it, and returns its
 * length, or 0 if it cannot be read. */
unsigned long state_read(char *to, unsigned long room);

/* state_stat and state_fstat are stat and fstat. */
struct stat;
int state_stat(const char *path, struct stat *found);
int state_fstat(int fd, struct stat *found);

/* state_change changes numbers of a GPU for all programs, as root may: make writes
 * which, for the GPU as it is when all other writers are done, and returns how
 * many. The GPU and all else that was read before is void then. */
enum { MAX_CHANGES = 8 };
struct change { const char *key; unsigned long long value; };
typedef unsigned int maker(const struct gpu *g, unsigned int value, struct change *changes);
nvmlReturn_t state_change(const struct gpu *g, maker *make, unsigned int value);

/* state_time is until when the state is known to be true: who counted on by an
 * old one, being held up in between, would go back with the next. In
 * microseconds, as now_us. */
unsigned long long state_time(void);

/* state_newest looks for a newer state at once. */
void state_newest(void);

/* state_told is what clients were told of the counters of a GPU. */
unsigned long long *state_told(const struct gpu *g);

/* counter_at is what a counter is at a time, and counter_of what a client is told
 * of it now: never less than before, unless somebody has set it. */
unsigned long long counter_at(const struct gpu *g, enum counter which, unsigned long long time);
unsigned long long counter_of(const struct gpu *g, enum counter which);

/* events_end and gpm_end free all event sets and samples, as the last
 * nvmlShutdown does. */
void events_end(void);
void gpm_end(void);

/* state_sleep lets other calls in for some microseconds. Everything that was
 * read before is void then. */
nvmlReturn_t state_sleep(long long microseconds);

/* handle_for returns the handle of a UUID, the same until the last nvmlShutdown,
 * whatever becomes of the GPU. It returns NULL if there are too many. */
struct nvmlDevice_st *handle_for(const char *uuid);

/* handle_device finds what a handle stands for now. */
nvmlReturn_t handle_device(struct nvmlDevice_st *handle, struct device *d);

/* How the models check what they are given. */
#define NEED(good) do { if (!(good)) return NVML_ERROR_INVALID_ARGUMENT; } while (0)
#define SUPPORT(has) do { if (!(has)) return NVML_ERROR_NOT_SUPPORTED; } while (0)
#define VERSION(pointer, expected) do { if ((pointer)->version != (expected)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH; } while (0)

/* GETTER models a function that returns one value of a GPU, g. */
#define GETTER(function, type, has, value)                       \
    nvmlReturn_t model_##function(const struct gpu *g, type *out) { \
        NEED(out);                                               \
        SUPPORT(has);                                            \
        *out = (type)(value);                                    \
        return NVML_SUCCESS;                                     \
    }

/* give_text gives a text to a caller's buffer, and give_count says how a list
 * goes on, both as NVML does. */
nvmlReturn_t give_text(char *to, unsigned int length, const char *from);
nvmlReturn_t give_count(unsigned int *count, const void *list, unsigned int have);

/* sum stays at the largest number, as a counter does. */
static inline unsigned long long sum(unsigned long long a, unsigned long long b) { return a > ~b ? ~0ULL : a + b; }

/* Since Ada, limits of the temperature are told as distances to the highest one. */
static inline int has_tlimit(const struct gpu *g) { return g->architecture >= NVML_DEVICE_ARCH_ADA; }

/* What a real H200 answers, of which there is no word for older cards. */
static inline int since_hopper(const struct gpu *g) { return g->architecture >= NVML_DEVICE_ARCH_HOPPER; }

/* The performance state with the lower memory clock: P2 with HBM, a bus of 1024
 * bits or more, else P8. A GPU without such a clock is always in P0. */
static inline nvmlPstates_t slow_pstate(const struct gpu *g) {
    return !g->low_clock_memory ? NVML_PSTATE_0 : g->bus_width >= 1024 ? NVML_PSTATE_2 : NVML_PSTATE_8;
}

/* now_us is the time in microseconds since 1970, which is what NVML's
 * timestamps are. */
unsigned long long now_us(void);

#include "models.gen.h"

#endif
