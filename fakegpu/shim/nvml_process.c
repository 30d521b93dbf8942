/* Which processes use a GPU. */
#include "state.h"

#include <stddef.h>
#include <string.h>

/* processes fills one list of processes, whose records start with the pid and
 * the memory in all versions. No process runs on the MIG devices. */
static nvmlReturn_t processes(const struct device *d, int type, unsigned int *count, void *infos, size_t size) {
    const struct gpu *g = d->gpu;
    unsigned int have = 0;
    for (unsigned int i = 0; !d->mig && i < g->process_count; i++) have += g->processes[i].type == (unsigned int)type;
    nvmlReturn_t r = give_count(count, infos, have);
    for (unsigned int i = 0, n = 0; r == NVML_SUCCESS && n < have; i++) {
        const struct process *p = &g->processes[i];
        if (p->type != (unsigned int)type) continue;
        nvmlProcessInfo_t info;
        memset(&info, 0, sizeof info);
        info.pid = p->pid;
        info.usedGpuMemory = p->memory;
        info.gpuInstanceId = info.computeInstanceId = NO_INSTANCE;
        memcpy((char *)infos + n++ * size, &info, size);
    }
    return r;
}

nvmlReturn_t model_nvmlDeviceGetComputeRunningProcesses(const struct device *d, unsigned int *count, nvmlProcessInfo_v1_t *infos) {
    return processes(d, COMPUTE, count, infos, sizeof *infos);
}

nvmlReturn_t model_nvmlDeviceGetComputeRunningProcesses_v2(const struct device *d, unsigned int *count, nvmlProcessInfo_v2_t *infos) {
    return processes(d, COMPUTE, count, infos, sizeof *infos);
}

nvmlReturn_t model_nvmlDeviceGetComputeRunningProcesses_v3(const struct device *d, unsigned int *count, nvmlProcessInfo_t *infos) {
    return processes(d, COMPUTE, count, infos, sizeof *infos);
}

nvmlReturn_t model_nvmlDeviceGetGraphicsRunningProcesses(const struct device *d, unsigned int *count, nvmlProcessInfo_v1_t *infos) {
    return processes(d, GRAPHICS, count, infos, sizeof *infos);
}

nvmlReturn_t model_nvmlDeviceGetGraphicsRunningProcesses_v2(const struct device *d, unsigned int *count, nvmlProcessInfo_v2_t *infos) {
    return processes(d, GRAPHICS, count, infos, sizeof *infos);
}

nvmlReturn_t model_nvmlDeviceGetGraphicsRunningProcesses_v3(const struct device *d, unsigned int *count, nvmlProcessInfo_t *infos) {
    return processes(d, GRAPHICS, count, infos, sizeof *infos);
}

nvmlReturn_t model_nvmlDeviceGetMPSComputeRunningProcesses(const struct device *d, unsigned int *count, nvmlProcessInfo_v1_t *infos) {
    return processes(d, MPS, count, infos, sizeof *infos);
}

nvmlReturn_t model_nvmlDeviceGetMPSComputeRunningProcesses_v2(const struct device *d, unsigned int *count, nvmlProcessInfo_v2_t *infos) {
    return processes(d, MPS, count, infos, sizeof *infos);
}

nvmlReturn_t model_nvmlDeviceGetMPSComputeRunningProcesses_v3(const struct device *d, unsigned int *count, nvmlProcessInfo_t *infos) {
    return processes(d, MPS, count, infos, sizeof *infos);
}

/* MODE of nvmlProcessDetailList_t counts like this, as the header says. */
nvmlReturn_t model_nvmlDeviceGetRunningProcessDetailList(const struct device *d, nvmlProcessDetailList_t *list) {
    NEED(list);
    VERSION(list, nvmlProcessDetailList_v1);
    static const unsigned char types[] = {COMPUTE, GRAPHICS, MPS};
    NEED(list->mode < sizeof types);
    unsigned int room = list->numProcArrayEntries, have = 0;
    for (unsigned int i = 0; !d->mig && i < d->gpu->process_count; i++) {
        const struct process *p = &d->gpu->processes[i];
        if (p->type != types[list->mode]) continue;
        if (list->procArray && have < room) {
            nvmlProcessDetail_v1_t detail = {.pid = p->pid, .usedGpuMemory = p->memory};
            detail.gpuInstanceId = detail.computeInstanceId = NO_INSTANCE;
            list->procArray[have] = detail;
        }
        have++;
    }
    list->numProcArrayEntries = have;
    return have > (list->procArray ? room : 0) ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

/* share is a process's part of what all of them make of an engine. */
static unsigned int share(const struct gpu *g, const struct process *p, unsigned long long load) {
    unsigned long long all = 0;
    for (unsigned int i = 0; i < g->process_count; i++) all += g->processes[i].sm;
    return all ? (unsigned int)(load * p->sm / all) : 0;
}

/* One sample a process, at the time of the call. */
nvmlReturn_t model_nvmlDeviceGetProcessUtilization(const struct gpu *g, nvmlProcessUtilizationSample_t *samples, unsigned int *count,
                                                   unsigned long long last_seen) {
    unsigned long long now = now_us();
    NEED(count);
    SUPPORT(!g->mig_mode);
    if (g->process_count == 0 || last_seen >= now) {
        *count = 0;
        return NVML_ERROR_NOT_FOUND;
    }
    nvmlReturn_t r = give_count(count, samples, g->process_count);
    for (unsigned int i = 0; r == NVML_SUCCESS && i < g->process_count; i++) {
        const struct process *p = &g->processes[i];
        samples[i] = (nvmlProcessUtilizationSample_t){.pid = p->pid, .timeStamp = now, .smUtil = p->sm,
            .memUtil = share(g, p, g->utilization_memory), .encUtil = share(g, p, g->utilization_encoder),
            .decUtil = share(g, p, g->utilization_decoder)};
    }
    return r;
}

nvmlReturn_t model_nvmlDeviceGetProcessesUtilizationInfo(const struct gpu *g, nvmlProcessesUtilizationInfo_t *info) {
    unsigned long long now = now_us();
    NEED(info);
    VERSION(info, nvmlProcessesUtilizationInfo_v1);
    SUPPORT(!g->mig_mode);
    if (g->process_count == 0 || info->lastSeenTimeStamp >= now) {
        info->processSamplesCount = 0;
        return NVML_ERROR_NOT_FOUND;
    }
    nvmlReturn_t r = give_count(&info->processSamplesCount, info->procUtilArray, g->process_count);
    for (unsigned int i = 0; r == NVML_SUCCESS && i < g->process_count; i++) {
        const struct process *p = &g->processes[i];
        info->procUtilArray[i] = (nvmlProcessUtilizationInfo_v1_t){.pid = p->pid, .timeStamp = now, .smUtil = p->sm,
            .memUtil = share(g, p, g->utilization_memory), .encUtil = share(g, p, g->utilization_encoder),
            .decUtil = share(g, p, g->utilization_decoder), .jpgUtil = share(g, p, g->utilization_jpeg),
            .ofaUtil = share(g, p, g->utilization_ofa)};
    }
    return r;
}
