package pods

import (
	"bytes"
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/studioml/studio-go-runner/e2e/kube"
)

// Run runs a program in a pod of the image. What it prints on stderr is among its
// output.
func (e *env) Run(ctx context.Context, stdin io.Reader, stdout io.Writer, command ...string) error {
	var input bytes.Buffer
	if stdin != nil {
		if _, err := input.ReadFrom(stdin); err != nil {
			return err
		}
	}
	escaped := bytes.ReplaceAll(input.Bytes(), []byte("$("), []byte("$$(")) // a kubelet expands $(NAME)
	r, err := e.create(ctx, parts{
		Name: "run-" + rand.String(8), Program: true, Env: map[string]string{"E2E_INPUT": string(escaped)},
		Command: append([]string{"/bin/sh", "-c", `printf %s "$E2E_INPUT" | "$@"`, "sh"}, command...),
	})
	if err != nil {
		return err
	}
	now, err := r.reach(ctx, runnerContainer, over)
	if err != nil {
		return err
	}
	state := r.state(now, runnerContainer).Terminated
	if state == nil {
		return fmt.Errorf("run %s: %s", command[0], kube.Condition(now))
	}
	if state.ExitCode != 0 {
		return fmt.Errorf("run %s: exit code %d: %s", command[0], state.ExitCode, state.Message)
	}
	if stdout == nil {
		return nil
	}
	log, err := e.log(ctx, r.pod.Name, &corev1.PodLogOptions{Container: runnerContainer})
	if err == nil {
		_, err = stdout.Write(log)
	}
	return err
}
