package observe

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
)

// Whatever comes when, a task starts when the pod says that there is one, which is soon; in
// the end the pod says what is so.
func TestThePodAtRandom(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 0))
			var refused atomic.Bool
			refuse := func() error {
				if refused.Load() {
					return &kube.Refusal{Code: 429, Later: time.Second}
				}
				return nil
			}
			podOf(t, refuse, func(t *testing.T, p *Pod, b *Board, all func() []wrote, end func()) {
				now := in(api.PhaseRunning, "1")
				for range 200 {
					time.Sleep([]time.Duration{time.Millisecond, 300 * time.Millisecond, 3 * time.Second, 12 * time.Second}[random.IntN(4)])
					switch random.IntN(6) {
					case 0:
						refused.Store(random.IntN(3) == 0)
					case 1, 2:
						now.Tasks.Running = random.IntN(2)
					case 3:
						phase := []api.Phase{api.PhaseRunning, api.PhaseDraining, api.PhaseSuspended}[random.IntN(3)]
						running := now.Tasks.Running
						if now = in(phase, fmt.Sprint(random.IntN(50))); phase != api.PhaseSuspended {
							now.Tasks.Running = running
						}
					default: // a task is about to start
						if now.Phase != api.PhaseRunning {
							continue
						}
						begin := time.Now()
						p.Busy(t.Context())
						took, wrote := time.Since(begin), all()
						p.mu.Lock()
						failed := p.failed
						p.mu.Unlock()
						if !failed && (took >= podWait || wrote[len(wrote)-1].Metadata.Labels[api.LabelBusy] != "true") {
							t.Errorf("a task starts after %s, and the pod does not say so", took)
						}
						now.Tasks.Running = 1
					}
					b.Publish(now)
				}
				check := func(when string, busy bool) {
					wrote := all()
					got := wrote[len(wrote)-1].Metadata.Labels
					if got[api.LabelPhase] != string(now.Phase) || got[api.LabelBusy] != fmt.Sprint(busy) {
						t.Errorf("%s it says %v, where the runner is %s with %d tasks", when, got, now.Phase, now.Tasks.Running)
					}
				}
				refused.Store(false)
				time.Sleep(podLongest + podSpread + podIdle)
				check("long after", now.Tasks.Running > 0)
				now = in(api.PhaseTerminated, "100")
				b.Publish(now)
				time.Sleep(time.Duration(random.IntN(3)) * time.Second)
				end()
				check("at the end", false)
			})
		})
	}
}
