package main

import (
	"context"
	"errors"
	"time"

	"github.com/studioml/studio-go-runner/e2e/network"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/runner/api"
)

var steeringFaults = []fault{
	{"state-global", "state", false, 300 * time.Millisecond, 2 * time.Second, flip(true)},
	{"state-node", "state", false, 300 * time.Millisecond, 2 * time.Second, flip(false)},
	{"state-blip", "state", false, 0, 150 * time.Millisecond, flip(true)}, // shorter than the settle window
	{"api-killed", "api", false, time.Second, 4 * time.Second, apiKilled},
	{"api-blackhole", "api", false, 2 * time.Second, 6 * time.Second, between(network.Fault{Mode: "drop"})},
	{"api-refusing", "api", false, time.Second, 4 * time.Second, between(network.Fault{Mode: "cut"})},
	{"api-busy", "api", false, time.Second, 4 * time.Second, between(network.Fault{Answer: 503, RetryAfter: scenario.Duration(30 * time.Second)})},
	{"api-slow", "api", false, 2 * time.Second, 4 * time.Second, between(network.Fault{Late: scenario.Duration(1500 * time.Millisecond)})},
	{"api-token", "api", false, time.Second, 2 * time.Second, expired},
}

// flip drains with one of the maps, and lets work go on again: by Running, or by no
// map. The node map may say Running meanwhile, which exempts that runner.
func flip(global bool) func(context.Context, *Arena, *hit) error {
	return func(ctx context.Context, a *Arena, h *hit) error {
		name, drain := h.runner.name, []api.State{api.DrainAndSuspend, api.DrainAndTerminate}[h.Dice%2]
		if global {
			name = api.GlobalMapName
		}
		lasting := context.WithoutCancel(ctx)
		if global && h.Dice/2%3 == 0 {
			if err := a.set(lasting, h.runner.name, string(api.Running)); err != nil {
				return err
			}
		}
		if err := a.set(lasting, name, string(drain)); err != nil {
			return err
		}
		h.last(ctx)
		back := []string{string(api.Running), ""}[h.Dice/8%2]
		return errors.Join(a.set(lasting, name, back), a.set(lasting, h.runner.name, ""))
	}
}

// apiKilled kills the API server and starts it again.
func apiKilled(ctx context.Context, a *Arena, h *hit) error {
	a.server.Lock()
	defer a.server.Unlock()
	lasting := context.WithoutCancel(ctx)
	if err := a.plane.StopAPIServer(lasting); err != nil {
		return err
	}
	h.last(ctx)
	return a.plane.StartAPIServer(lasting)
}

// between makes what lies between the runners and the API server so.
func between(n network.Fault) func(context.Context, *Arena, *hit) error {
	return func(ctx context.Context, a *Arena, h *hit) error {
		control := a.env.(targets.NetworkControl)
		if err := control.SetNetwork(n); err != nil {
			return err
		}
		h.last(ctx)
		return control.SetNetwork(network.Fault{Mode: "restore"})
	}
}

// expired gives the runners a token whose time is over, and then a new one.
func expired(ctx context.Context, a *Arena, h *hit) error {
	lasting := context.WithoutCancel(ctx)
	control := a.env.(targets.TokenControl)
	err := errors.Join(control.SetToken(lasting, scenario.TokenExpire), a.copyCredentials())
	h.last(ctx)
	return errors.Join(err, control.SetToken(lasting, scenario.TokenRotate), a.copyCredentials())
}

var gpuFaults = []fault{
	{"gpu-xid", "gpu", false, time.Second, 2 * time.Second, sick(func(dir, gpu string) error { return fakegpu.RaiseXid(dir, gpu, 79) })},
	{"gpu-ecc", "gpu", false, time.Second, 2 * time.Second, sick(func(dir, gpu string) error { return fakegpu.CountECC(dir, gpu, true, 1) })},
	{"gpu-lost", "gpu", false, time.Second, 2 * time.Second, sick(func(dir, gpu string) error { return fakegpu.Set(dir, gpu, "lost=1") })},
}

// sick harms one GPU and heals it.
func sick(harm func(dir, gpu string) error) func(context.Context, *Arena, *hit) error {
	return func(ctx context.Context, a *Arena, h *hit) error {
		h.gpu = a.gpus[h.Dice%uint64(len(a.gpus))].UUID
		err := harm(a.path("gpus"), h.gpu)
		h.last(ctx)
		return errors.Join(err, fakegpu.Heal(a.path("gpus"), h.gpu))
	}
}
