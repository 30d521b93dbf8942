package main

import (
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

func TestWhy(t *testing.T) {
	two := api.Resources{GPUs: 2, GPUMemory: 40 << 30}
	small := api.Offer{Phase: api.PhaseRunning, Slots: 1, GPUs: []api.Bytes{16 << 30, 80 << 30}}
	large := api.Offer{Phase: api.PhaseRunning, Slots: 2, Running: 1, GPUs: []api.Bytes{80 << 30, 40 << 30}}
	busy, suspended, draining := large, large, large
	busy.Running, suspended.Runner, suspended.Phase, draining.Phase = 2, "s", api.PhaseSuspended, api.PhaseDraining
	later := time.Now().Add(5 * time.Minute)
	for _, test := range []struct {
		name   string
		task   api.TaskStatus
		offers []api.Offer
		want   string
	}{
		{"nobody tells", api.TaskStatus{}, nil, "number 3 in the queue"},
		{"no runner", api.TaskStatus{}, []api.Offer{}, "number 3 in the queue; no runner looks into it"},
		{"too small", api.TaskStatus{}, []api.Offer{small, small}, "number 3 in the queue; no runner has 2 GPUs of 40Gi"},
		{"all drained", api.TaskStatus{}, []api.Offer{small, suspended, draining}, "number 3 in the queue; no runner that could run it takes tasks: s is Suspended"},
		{"all busy", api.TaskStatus{}, []api.Offer{small, suspended, busy}, "number 3 in the queue; all runners that could run it are busy"},
		{"soon", api.TaskStatus{}, []api.Offer{busy, large}, "number 3 in the queue"},
		{"after a failure", api.TaskStatus{Starts: 2, NotBefore: later}, []api.Offer{small},
			"attempt 2 failed; the next one starts after " + later.Format(time.TimeOnly)},
		{"dead", api.TaskStatus{State: api.TaskDead, Reason: "attempt 3: exit status 1"}, nil, "attempt 3: exit status 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.task.State == "" {
				test.task.State, test.task.Position, test.task.Resources = api.TaskWaiting, 3, two
			}
			if got := why(test.task, test.offers); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	for class, want := range map[api.Resources]string{{}: "0 GPUs", {GPUs: 1}: "a GPU", {GPUs: 1, GPUMemory: 1536 << 20}: "a GPU of 1536Mi", {GPUs: 8}: "8 GPUs"} {
		if got := class.String(); got != want {
			t.Errorf("%+v is %q, want %q", class, got, want)
		}
	}
}
