package pods

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// followOthers follows the pods that StartRunner does not: those with a sidecar.
func (e *env) followOthers(ctx context.Context) {
	followed := map[types.UID]bool{}
	for {
		changed := e.next()
		for _, object := range e.pods.List() {
			r := &runner{e, object.(*corev1.Pod)}
			if !followed[r.pod.UID] && sidecar(r.pod) {
				followed[r.pod.UID] = true
				e.following.Go(func() { r.letGo(ctx) })
				e.following.Go(func() {
					if err := r.logs(ctx, beside, func(line string) { e.note(ctx, line) }); err != nil {
						e.note(ctx, err.Error())
					}
				})
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// note passes on a line for Journal.
func (e *env) note(ctx context.Context, line string) {
	if strings.HasPrefix(line, beside+" ") {
		return
	}
	select {
	case e.notes <- line:
	case <-ctx.Done():
	}
}

// letGo makes the files that held tasks wait for, as they are released, until the
// pod has ended.
func (r *runner) letGo(ctx context.Context) {
	for made := 0; ; {
		var files []string
		now, err := r.env.await(ctx, r.pod.Name, func(p *corev1.Pod) bool {
			r.env.mu.Lock()
			files = slices.Clone(r.env.released[made:])
			r.env.mu.Unlock()
			stage := r.stage(p, beside)
			return stage == over || stage == running && len(files) > 0
		})
		if err != nil || r.stage(now, beside) == over {
			return
		}
		if err = r.exec(ctx, beside, slices.Concat([]string{"touch"}, files)...); err == nil {
			made += len(files)
			continue
		}
		r.env.mu.Lock()
		r.env.unheard = errors.Join(errors.New("tasks may be held still"), err)
		r.env.mu.Unlock()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}
