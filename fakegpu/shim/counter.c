/* The counters that grow by themselves. */
#include "state.h"

unsigned long long counter_at(const struct gpu *g, enum counter which, unsigned long long time) {
    const unsigned long long hot = nvmlClocksEventReasonSwThermalSlowdown | nvmlClocksThrottleReasonHwThermalSlowdown;
    const struct { unsigned long long begun; double rate; /* a microsecond */ } of[COUNTERS] = {
        [ENERGY] = {g->energy, (double)g->power / 1e6},
        [CAPPED] = {g->violation_power, g->clock_reasons & nvmlClocksEventReasonSwPowerCap ? 1e3 : 0},
        [HOT] = {g->violation_thermal, g->clock_reasons & hot ? 1e3 : 0},
    };
    if (!g->since || time <= g->since) return of[which].begun;
    return sum(of[which].begun, (unsigned long long)((double)(time - g->since) * of[which].rate));
}

unsigned long long counter_of(const struct gpu *g, enum counter which) {
    unsigned long long *told = &state_told(g)[which], now = counter_at(g, which, state_time());
    if (now > *told) *told = now;
    return *told;
}
