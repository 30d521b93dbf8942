/* GPU performance metrics, since Hopper: what a GPU does, between two samples. */
#include "state.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A sample is what the state says when it is taken. */
struct nvmlGpmSample_st {
    int used;
    unsigned long long time; /* 0 until it is taken */
    char uuid[TEXT];
    double load, memory, decoder, jpeg, ofa, tx, rx; /* percent; KB/s */
};
enum { MAX_SAMPLES = 4 * MAX_GPUS };
static struct nvmlGpmSample_st samples[MAX_SAMPLES];

static int valid(nvmlGpmSample_t sample) {
    uintptr_t at = (uintptr_t)sample.handle - (uintptr_t)samples;
    return at < sizeof samples && at % sizeof *samples == 0 && sample.handle->used;
}

nvmlReturn_t model_nvmlGpmSampleAlloc(nvmlGpmSample_t *sample) {
    NEED(sample);
    struct nvmlGpmSample_st *s = samples;
    while (s < samples + MAX_SAMPLES && s->used) s++;
    if (s == samples + MAX_SAMPLES) return NVML_ERROR_MEMORY;
    memset(s, 0, sizeof *s);
    s->used = 1;
    sample->handle = s;
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlGpmSampleFree(nvmlGpmSample_t sample) {
    NEED(valid(sample));
    sample.handle->used = 0;
    return NVML_SUCCESS;
}

void gpm_end(void) {
    for (unsigned int i = 0; i < MAX_SAMPLES; i++) samples[i].used = 0;
}

static int has(const struct gpu *g) { return g->architecture >= NVML_DEVICE_ARCH_HOPPER; }

nvmlReturn_t model_nvmlGpmQueryDeviceSupport(const struct gpu *g, nvmlGpmSupport_t *support) {
    NEED(support);
    VERSION(support, NVML_GPM_SUPPORT_VERSION);
    support->isSupportedDevice = has(g);
    return NVML_SUCCESS;
}

nvmlReturn_t model_nvmlGpmSampleGet(const struct gpu *g, nvmlGpmSample_t sample) {
    NEED(valid(sample));
    SUPPORT(has(g));
    struct nvmlGpmSample_st *s = sample.handle;
    strcpy(s->uuid, g->uuid); /* the same size */
    s->time = now_us();
    s->load = (double)g->utilization_gpu;
    s->memory = (double)g->utilization_memory;
    s->decoder = (double)g->utilization_decoder;
    s->jpeg = (double)g->utilization_jpeg;
    s->ofa = (double)g->utilization_ofa;
    s->tx = (double)g->pcie_tx;
    s->rx = (double)g->pcie_rx;
    return NVML_SUCCESS;
}

/* Nothing runs on the MIG devices. */
nvmlReturn_t model_nvmlGpmMigSampleGet(const struct gpu *g, unsigned int instance, nvmlGpmSample_t sample) {
    NEED(valid(sample));
    SUPPORT(has(g) && g->mig_mode);
    const struct mig *m = g->migs;
    while (m < g->migs + g->mig_count && m->gi != instance) m++;
    NEED(m < g->migs + g->mig_count);
    memset(sample.handle, 0, sizeof *sample.handle);
    sample.handle->used = 1;
    strcpy(sample.handle->uuid, m->uuid); /* the same size */
    sample.handle->time = now_us();
    return NVML_SUCCESS;
}

/* The metrics that the state tells; those with more than one engine are the same
 * for each. */
static const struct metric {
    unsigned int first, last;
    size_t value;
    double scale;
    const char *name, *unit;
} metrics[] = {
#define METRIC(first, last, field, scale, name, unit) {first, last, offsetof(struct nvmlGpmSample_st, field), scale, name, unit}
    METRIC(NVML_GPM_METRIC_GRAPHICS_UTIL, NVML_GPM_METRIC_GRAPHICS_UTIL, load, 1, "Graphics Util", "%"),
    METRIC(NVML_GPM_METRIC_SM_UTIL, NVML_GPM_METRIC_SM_UTIL, load, 1, "SM Util", "%"),
    METRIC(NVML_GPM_METRIC_DRAM_BW_UTIL, NVML_GPM_METRIC_DRAM_BW_UTIL, memory, 1, "DRAM BW Util", "%"),
    METRIC(NVML_GPM_METRIC_PCIE_TX_PER_SEC, NVML_GPM_METRIC_PCIE_TX_PER_SEC, tx, 1. / 1024, "PCIe TX/sec", "MiB/s"),
    METRIC(NVML_GPM_METRIC_PCIE_RX_PER_SEC, NVML_GPM_METRIC_PCIE_RX_PER_SEC, rx, 1. / 1024, "PCIe RX/sec", "MiB/s"),
    METRIC(NVML_GPM_METRIC_NVDEC_0_UTIL, NVML_GPM_METRIC_NVDEC_7_UTIL, decoder, 1, "NVDEC Util", "%"),
    METRIC(NVML_GPM_METRIC_NVJPG_0_UTIL, NVML_GPM_METRIC_NVJPG_7_UTIL, jpeg, 1, "NVJPG Util", "%"),
    METRIC(NVML_GPM_METRIC_NVOFA_0_UTIL, NVML_GPM_METRIC_NVOFA_1_UTIL, ofa, 1, "NVOFA Util", "%"),
};

static double of(const struct nvmlGpmSample_st *s, const struct metric *m) { return *(const double *)((const char *)s + m->value) * m->scale; }

GETTER(nvmlGpmQueryIfStreamingEnabled, unsigned int, since_hopper(g), 0)

nvmlReturn_t model_nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *get) {
    NEED(get);
    VERSION(get, NVML_GPM_METRICS_GET_VERSION);
    NEED(get->numMetrics <= NVML_GPM_METRIC_MAX && valid(get->sample1) && valid(get->sample2));
    const struct nvmlGpmSample_st *a = get->sample1.handle, *b = get->sample2.handle;
    NEED(a->time && b->time && !strcmp(a->uuid, b->uuid));
    for (nvmlGpmMetric_t *out = get->metrics; out < get->metrics + get->numMetrics; out++) {
        const struct metric *m = metrics, *end = metrics + sizeof metrics / sizeof *metrics;
        while (m < end && (out->metricId < m->first || out->metricId > m->last)) m++;
        out->nvmlReturn = m < end ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
        out->value = m < end ? (of(a, m) + of(b, m)) / 2 : 0;
        memset(&out->metricInfo, 0, sizeof out->metricInfo);
        if (m == end) continue;
        out->metricInfo.shortName = out->metricInfo.longName = (char *)m->name;
        out->metricInfo.unit = (char *)m->unit;
    }
    return NVML_SUCCESS;
}
