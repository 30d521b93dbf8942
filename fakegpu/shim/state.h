/* The state of the fake GPUs: read from a directory, the same for every
 * function of the library. */
#ifndef FAKEGPU_STATE_H
#define FAKEGPU_STATE_H

#define NVML_NO_UNVERSIONED_FUNC_DEFS /* declare old versions under their own names */
#include <nvml.h>

#define EXPORT __attribute__((visibility("default")))

enum { MAX_DEVICES = 64, TEXT = 96 };

/* A GPU as the state file has it. */
struct device {
    char uuid[TEXT];
    char name[TEXT];
    char serial[TEXT];
    unsigned int brand, architecture, cc_major, cc_minor;
    unsigned long long memory, memory_used, memory_reserved; /* bytes */
    unsigned int bus, pci_device, pci_subsystem;
    unsigned int temperature;          /* degrees Celsius */
    unsigned int power;                /* milliwatts */
    unsigned int ecc;                  /* whether the model has ECC memory */
    unsigned int index;                /* place in the file, which is NVML's order */
};

/* What holds for the machine. */
struct machine {
    char driver[TEXT], nvml[TEXT];
    int cuda;
    unsigned int count;
};

/* Every function below takes the newest state, at most a millisecond old. */

/* state_init counts a nvmlInit, state_shutdown takes one off. */
nvmlReturn_t state_init(void);
nvmlReturn_t state_shutdown(void);

/* state_machine copies what holds for the machine. */
nvmlReturn_t state_machine(struct machine *m);

/* state_device copies the GPU behind a handle. */
nvmlReturn_t state_device(nvmlDevice_t handle, struct device *d);

/* state_find gives the handle of the first GPU that matches. */
nvmlReturn_t state_find(int (*matches)(const struct device *, const void *), const void *wanted, nvmlDevice_t *handle);

/* copy_text gives a text to a caller's buffer, as NVML does. */
nvmlReturn_t copy_text(char *to, unsigned int length, const char *from);

#endif
