/* What entry.gen.c needs: each function of nvml.h as one call of its model, or
 * as one that is not supported. */
#ifndef FAKEGPU_ENTRY_H
#define FAKEGPU_ENTRY_H

#pragma GCC visibility push(default)
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>
#pragma GCC visibility pop

#include "state.h"

#include <stddef.h>

#define BEGIN(begin, model)                 \
    struct call c;                          \
    nvmlReturn_t answer = begin;            \
    if (answer == NVML_SUCCESS) answer = (model); \
    return call_end(&c, answer);

#define STRING(function, ...)     \
    struct call c;                \
    call_any(&c, #function);      \
    call_end(&c, NVML_SUCCESS);   \
    return model_##function(__VA_ARGS__);
#define INIT(function) BEGIN(call_init(&c, #function), answer)
#define SHUTDOWN(function) BEGIN(call_shutdown(&c, #function), answer)
#define MACHINE(function, ...) BEGIN(call_begin(&c, #function, NULL), model_##function(__VA_ARGS__))
#define HANDLE(function, given, ...) BEGIN(call_begin(&c, #function, NULL), call_given(&c, model_##function(__VA_ARGS__), given))
#define DEVICE(function, handle, ...) BEGIN(call_begin(&c, #function, &(handle)), model_##function(&c.device, ##__VA_ARGS__))
#define STUB(function) BEGIN(call_begin(&c, #function, NULL), NVML_ERROR_NOT_SUPPORTED)
#define STUB_DEVICE(function, handle) BEGIN(call_begin(&c, #function, &(handle)), NVML_ERROR_NOT_SUPPORTED)

/* A function about whole GPUs does not support the handles of MIG devices. */
#define GPU(function, handle, ...)               \
    BEGIN(call_begin(&c, #function, &(handle)),  \
          c.device.mig ? NVML_ERROR_NOT_SUPPORTED : model_##function(c.device.gpu, ##__VA_ARGS__))

#endif
