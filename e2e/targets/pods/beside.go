package pods

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Beside a runner, in its pod, is a container that reads the journal and repeats
// each note in its log, on stderr, so that no line of stdout is cut by one. What it
// runs beside that, if anything, is what it ends with; else TERM is the end of the
// container, which for a sidecar comes after the runner's. Its first line is like no
// other's; see logReader.
const besideScript = `
read -r line </proc/sys/kernel/random/uuid
echo "beside $line"
[ -p "$journal" ] || mkfifo "$journal"
exec 3<>"$journal" # for writing, too: so that nobody waits for the other
if [ $# -gt 0 ]; then
	trap '' TERM
	{ "$@"; echo over >&3; } &
else
	trap 'echo over >&3' TERM
fi
while [ "$line" != over ]; do
	if IFS= read -r line <&3 && [ "$line" != over ]; then
		printf '%s\n' "$line" >&2
	fi
done`

// besideContainer is the container beside a runner of that image.
func besideContainer(image string, security *corev1.SecurityContext, command ...string) corev1.Container {
	return corev1.Container{
		Name: beside, Image: image, SecurityContext: security,
		Command:      append([]string{"/bin/sh", "-c", besideScript, beside}, command...),
		Env:          []corev1.EnvVar{{Name: api.EnvNVDevices, Value: "void"}, {Name: "journal", Value: journal}},
		VolumeMounts: []corev1.VolumeMount{{Name: volume, MountPath: mount}},
	}
}

// Sidecar is what a pod of a shipped workload has to have for its tasks to be heard.
func Sidecar(image string, security *corev1.SecurityContext) corev1.Container {
	c := besideContainer(image, security)
	c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	return c
}

// followOthers follows the pods that StartRunner does not: those with a sidecar.
func (e *env) followOthers(ctx context.Context) {
	followed := map[types.UID]bool{}
	for {
		changed := e.watch.next()
		for _, object := range e.watch.pods.List() {
			pod := object.(*corev1.Pod)
			if !followed[pod.UID] && sidecar(pod) {
				followed[pod.UID] = true
				e.following.Go(func() { e.letGo(ctx, pod) })
				e.following.Go(func() {
					if err := e.logs(ctx, pod, beside, func(line string) { e.note(ctx, line) }); err != nil {
						e.note(ctx, "the log of pod "+pod.Name+" has a gap: "+err.Error())
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
func (e *env) letGo(ctx context.Context, pod *corev1.Pod) {
	made := 0
	gone := func(p *corev1.Pod) bool { return !same(p, pod) || over(p, beside) }
	for {
		var files []string
		p, err := e.watch.await(ctx, pod.Name, func(p *corev1.Pod) bool {
			e.mu.Lock()
			files = slices.Clone(e.released[made:])
			e.mu.Unlock()
			return gone(p) || len(files) > 0 && running(p, beside)
		})
		if err != nil || gone(p) {
			return
		}
		err = e.exec(ctx, pod.Name, beside, slices.Concat([]string{"touch"}, files)...)
		if err == nil {
			made += len(files)
			continue
		}
		e.mu.Lock()
		e.unheard = errors.Join(errors.New("tasks may be held still"), err)
		e.mu.Unlock()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// over says whether a container of the pod will write nothing any more. A sidecar is
// started again for as long as the pod goes on.
func over(pod *corev1.Pod, name string) bool {
	return finished(pod) || endedOrNever(pod, name) && !(name == beside && sidecar(pod))
}

// sidecar says whether the container beside the runner is one.
func sidecar(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == beside })
}
