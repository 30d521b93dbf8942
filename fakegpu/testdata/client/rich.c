/* Lists and MIG devices. */
#include "client.h"

/* lists are about two compute processes and a graphics one on GPU 0. */
void lists(void) {
    nvmlDevice_t device = {0}, same = {0};
    unsigned int n = 7;
    char text[96];
    OK(nvmlDeviceGetHandleByIndex_v2, 0, &device);
    OK(nvmlDeviceGetModuleId, device, &n);
    want(n, 0, "module of a GPU that is on no baseboard");
    WANT(INSUFFICIENT_SIZE, nvmlDeviceGetComputeRunningProcesses_v3, device, &n, NULL);
    want(n, 2, "processes of a size probe");
    n = 1;
    nvmlProcessInfo_t one;
    WANT(INSUFFICIENT_SIZE, nvmlDeviceGetComputeRunningProcesses_v3, device, &n, &one);
    want(n, 2, "processes for which there is no room");
    nvmlProcessInfo_t *infos = malloc(2 * sizeof *infos);
    OK(nvmlDeviceGetComputeRunningProcesses_v3, device, &n, infos);
    want(infos[0].pid * 10000 + infos[1].pid, 1010102, "pids");
    want((long long)infos[1].usedGpuMemory, 2048, "memory of a process");
    want(infos[0].gpuInstanceId, 0xffffffff, "instance of a process without MIG");
    free(infos);
    /* The record of the first version is smaller; the sanitizer watches. */
    nvmlProcessInfo_v1_t *old = malloc(2 * sizeof *old);
    OK(nvmlDeviceGetComputeRunningProcesses, device, &n, old);
    want((long long)old[1].pid, 102, "pid in the first version");
    free(old);
    n = 0;
    WANT(INSUFFICIENT_SIZE, nvmlDeviceGetGraphicsRunningProcesses_v3, device, &n, NULL);
    want(n, 1, "graphics processes");
    n = 0;
    OK(nvmlDeviceGetMPSComputeRunningProcesses_v3, device, &n, NULL);
    OK(nvmlSystemGetProcessName, 102, text, sizeof text);
    want(strcmp(text, "python3 train.py"), 0, text);
    OK(nvmlSystemGetProcessName, 102, text, 8);
    want(strcmp(text, "python3"), 0, "a name that is cut");
    WANT(NO_DATA, nvmlSystemGetProcessName, 4242, text, sizeof text);
    WANT(NOT_FOUND, nvmlSystemGetProcessName, 0, text, sizeof text);

    unsigned int count = 0;
    nvmlProcessUtilizationSample_t samples[3];
    WANT(INSUFFICIENT_SIZE, nvmlDeviceGetProcessUtilization, device, NULL, &count, 0);
    want(count, 3, "samples");
    OK(nvmlDeviceGetProcessUtilization, device, samples, &count, 0);
    want(samples[1].smUtil, 40, "utilization of a process");
    WANT(NOT_FOUND, nvmlDeviceGetProcessUtilization, device, samples, &count, ~0ULL);

    nvmlSample_t sample;
    nvmlValueType_t type;
    count = 1;
    OK(nvmlDeviceGetSamples, device, NVML_GPU_UTILIZATION_SAMPLES, 0, &type, &count, &sample);
    want(sample.sampleValue.uiVal, 70, "sample of the utilization");
    nvmlFieldValue_t fields[] = {{.fieldId = NVML_FI_DEV_ECC_DBE_VOL_TOTAL}, {.fieldId = 9999}, {.fieldId = NVML_FI_DEV_NVLINK_GET_STATE, .scopeId = 17}};
    OK(nvmlDeviceGetFieldValues, device, 3, fields);
    want((long long)fields[0].value.ullVal, 5, "field");
    want(fields[1].nvmlReturn, NVML_ERROR_NOT_SUPPORTED, "field that there is not");
    want(fields[2].nvmlReturn, NVML_SUCCESS, "field of a link");
    WANT(INVALID_ARGUMENT, nvmlDeviceGetFieldValues, device, 0, fields);
    unsigned int clocks[256];
    count = 256;
    unsigned int memory_clock = 0;
    OK(nvmlDeviceGetMaxClockInfo, device, NVML_CLOCK_MEM, &memory_clock);
    OK(nvmlDeviceGetSupportedGraphicsClocks, device, memory_clock, &count, clocks);
    want(clocks[0] > clocks[count - 1], 1, "clocks go down");
    WANT(NOT_FOUND, nvmlDeviceGetSupportedGraphicsClocks, device, 1, &count, clocks);

    /* Any pair of GPUs has an ancestor. */
    OK(nvmlDeviceGetCount_v2, &n);
    for (unsigned int i = 0; i < n * n; i++) {
        nvmlGpuTopologyLevel_t level;
        OK(nvmlDeviceGetHandleByIndex_v2, i / n, &device);
        OK(nvmlDeviceGetHandleByIndex_v2, i % n, &same);
        OK(nvmlDeviceGetTopologyCommonAncestor, device, same, &level);
        want(level == NVML_TOPOLOGY_INTERNAL, i / n == i % n, "only the GPU itself is internal");
    }
}

/* mig is about GPU 1, which has a MIG device of one slice and one of three. */
void mig(void) {
    nvmlDevice_t gpu = {0}, device = {0}, back = {0};
    unsigned int n = 0, other = 0;
    char text[96];
    OK(nvmlDeviceGetHandleByIndex_v2, 1, &gpu);
    OK(nvmlDeviceGetMigMode, gpu, &n, &other);
    want(n + other, 2, "MIG mode");
    OK(nvmlDeviceGetMaxMigDeviceCount, gpu, &n);
    want(n, 7, "most MIG devices");
    WANT(NOT_FOUND, nvmlDeviceGetMigDeviceHandleByIndex, gpu, 2, &device);
    WANT(NOT_FOUND, nvmlDeviceGetMigDeviceHandleByIndex, gpu, 7, &device);
    OK(nvmlDeviceGetMigDeviceHandleByIndex, gpu, 0, &device);
    OK(nvmlDeviceIsMigDeviceHandle, device, &n);
    want(n, 1, "it is a MIG device");
    OK(nvmlDeviceGetUUID, device, text, sizeof text);
    OK(nvmlDeviceGetHandleByUUID, text, &back);
    want(back.handle == device.handle, 1, "its UUID names it");
    OK(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, device, &back);
    want(back.handle == gpu.handle, 1, "it is part of its GPU");
    WANT(INVALID_ARGUMENT, nvmlDeviceGetDeviceHandleFromMigDeviceHandle, gpu, &back);
    WANT(NOT_SUPPORTED, nvmlDeviceGetMinorNumber, device, &n);
    nvmlDeviceAttributes_t attributes;
    OK(nvmlDeviceGetAttributes_v2, device, &attributes);
    want(attributes.gpuInstanceSliceCount, 3, "slices");
    /* The first versions of these structs were shorter. */
    size_t old = __builtin_offsetof(nvmlDeviceAttributes_t, gpuInstanceSliceCount);
    nvmlDeviceAttributes_t *old_attributes = malloc(old);
    OK(nvmlDeviceGetAttributes, device, old_attributes);
    want(memcmp(old_attributes, &attributes, old), 0, "attributes in both versions");
    free(old_attributes);
    nvmlMemory_t memory;
    OK(nvmlDeviceGetMemoryInfo, device, &memory);
    want((long long)memory.total, 40448LL << 20, "memory of the MIG device, as nvidia-smi shows it");
    want(attributes.sharedCopyEngineCount * 1000 + attributes.sharedDecoderCount * 100 + attributes.sharedJpegCount * 10 + attributes.sharedOfaCount,
         3330, "engines of the MIG device");
    OK(nvmlDeviceGetGpuInstanceId, device, &n);
    want(n, 1, "GPU instance");
    nvmlGpuInstance_t gi;
    nvmlComputeInstance_t ci;
    nvmlGpuInstanceInfo_t gi_info;
    nvmlComputeInstanceInfo_t ci_info;
    OK(nvmlDeviceGetGpuInstanceById, gpu, n, &gi);
    WANT(NOT_FOUND, nvmlDeviceGetGpuInstanceById, gpu, 9, &gi);
    OK(nvmlGpuInstanceGetInfo, gi, &gi_info);
    want(gi_info.id, 1, "id of the GPU instance");
    OK(nvmlGpuInstanceGetComputeInstanceById, gi, 0, &ci);
    OK(nvmlComputeInstanceGetInfo_v2, ci, &ci_info);
    old = __builtin_offsetof(nvmlComputeInstanceInfo_t, placement);
    nvmlComputeInstanceInfo_t *old_info = malloc(old);
    OK(nvmlComputeInstanceGetInfo, ci, old_info);
    want(memcmp(old_info, &ci_info, old), 0, "compute instance in both versions");
    free(old_info);
    /* Both profiles can be found by their ids. */
    int found = 0;
    for (unsigned int i = 0; i < NVML_GPU_INSTANCE_PROFILE_COUNT; i++) {
        nvmlGpuInstanceProfileInfo_t info;
        if (CALL(nvmlDeviceGetGpuInstanceProfileInfo, gpu, i, &info) == NVML_SUCCESS && info.id == gi_info.profileId)
            found += info.sliceCount == 3;
    }
    for (unsigned int i = 0; i < NVML_COMPUTE_INSTANCE_PROFILE_COUNT; i++) {
        nvmlComputeInstanceProfileInfo_t info;
        if (CALL(nvmlGpuInstanceGetComputeInstanceProfileInfo, gi, i, 0, &info) == NVML_SUCCESS && info.id == ci_info.profileId)
            found += info.sliceCount == 3;
    }
    want(found, 2, "profiles of the instances");
    nvmlGpuInstanceProfileInfo_v3_t v3 = {.version = nvmlGpuInstanceProfileInfo_v3};
    OK(nvmlDeviceGetGpuInstanceProfileInfoByIdV, gpu, gi_info.profileId, (nvmlGpuInstanceProfileInfo_v2_t *)&v3);
    want(v3.sliceCount * 1000 + v3.multiprocessorCount, 3060, "slices and multiprocessors of a profile");
    want(strcmp(v3.name, "MIG 3g.40gb"), 0, v3.name);
    nvmlGpuInstanceProfileInfo_v2_t v2 = {.version = nvmlGpuInstanceProfileInfo_v2};
    WANT(INVALID_ARGUMENT, nvmlDeviceGetGpuInstanceProfileInfoByIdV, gpu, 99, &v2);
    OK(nvmlDeviceGetGpuInstanceProfileInfoV, gpu, NVML_GPU_INSTANCE_PROFILE_1_SLICE, &v2);
    v2.version = 1;
    WANT(ARGUMENT_VERSION_MISMATCH, nvmlDeviceGetGpuInstanceProfileInfoV, gpu, NVML_GPU_INSTANCE_PROFILE_1_SLICE, &v2);
    v2.version = nvmlGpuInstanceProfileInfo_v2;
    OK(nvmlDeviceGetHandleByIndex_v2, 0, &back); /* which is not in MIG mode */
    OK(nvmlDeviceGetGpuInstanceProfileInfoV, back, NVML_GPU_INSTANCE_PROFILE_1_SLICE, &v2); /* without MIG as well */

    /* What the header says of MIG in the notes on single functions. */
    for (unsigned int i = 0; i < 2; i++) {
        OK(nvmlDeviceGetMigDeviceHandleByIndex, gpu, i, &back);
        OK(nvmlDeviceGetIndex, back, &n);
        want(n, i, "index of a MIG device");
    }
    nvmlComputeMode_t mode = NVML_COMPUTEMODE_PROHIBITED;
    OK(nvmlDeviceGetComputeMode, device, &mode);
    want(mode, NVML_COMPUTEMODE_DEFAULT, "compute mode of the MIG device");
    WANT(INVALID_ARGUMENT, nvmlDeviceGetComputeMode, device, NULL);
    WANT(NOT_SUPPORTED, nvmlDeviceGetRemappedRows, gpu, &n, &n, &n, &n);
    WANT(NOT_SUPPORTED, nvmlDeviceGetRemappedRows, device, &n, &n, &n, &n);
    WANT(NOT_SUPPORTED, nvmlDeviceGetNumGpuCores, gpu, &n);
    WANT(NOT_SUPPORTED, nvmlDeviceGetNumGpuCores, device, &n);
    nvmlValueType_t type;
    const struct { nvmlSamplingType_t type; nvmlReturn_t answer; } samples[] = {
        {NVML_TOTAL_POWER_SAMPLES, NVML_SUCCESS},
        {NVML_GPU_UTILIZATION_SAMPLES, NVML_ERROR_NOT_SUPPORTED},
        {NVML_MEMORY_UTILIZATION_SAMPLES, NVML_ERROR_NOT_SUPPORTED},
        {NVML_ENC_UTILIZATION_SAMPLES, NVML_ERROR_NOT_SUPPORTED},
        {NVML_DEC_UTILIZATION_SAMPLES, NVML_ERROR_NOT_SUPPORTED},
        {NVML_PROCESSOR_CLK_SAMPLES, NVML_SUCCESS},
    };
    for (unsigned int i = 0; i < sizeof samples / sizeof *samples; i++) {
        want(CALL(nvmlDeviceGetSamples, gpu, samples[i].type, 0, &type, &n, NULL), samples[i].answer, "samples of a divided GPU");
        WANT(NOT_SUPPORTED, nvmlDeviceGetSamples, device, samples[i].type, 0, &type, &n, NULL);
    }
    nvmlBAR1Memory_t whole, part;
    OK(nvmlDeviceGetBAR1MemoryInfo, gpu, &whole);
    OK(nvmlDeviceGetBAR1MemoryInfo, device, &part);
    want((long long)part.bar1Total, (long long)whole.bar1Total / 2, "BAR1 of the MIG device, four eighths");
    want((long long)(part.bar1Free + part.bar1Used), (long long)part.bar1Total, "BAR1 adds up");
    unsigned long long errors = 7;
    OK(nvmlDeviceGetMemoryErrorCounter, device, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC, NVML_MEMORY_LOCATION_SRAM, &errors);
    want((long long)errors, 0, "errors of the MIG device");
    WANT(NOT_SUPPORTED, nvmlDeviceGetMemoryErrorCounter, device, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC,
         NVML_MEMORY_LOCATION_DRAM, &errors);
    WANT(NOT_SUPPORTED, nvmlDeviceGetMemoryErrorCounter, gpu, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC,
         NVML_MEMORY_LOCATION_SRAM, &errors);
    OK(nvmlDeviceGetMemoryErrorCounter, gpu, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_AGGREGATE_ECC, NVML_MEMORY_LOCATION_DRAM, &errors);
}
