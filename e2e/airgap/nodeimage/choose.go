package nodeimage

import (
	"context"
	"fmt"
	"io"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/defaults"

	"github.com/studioml/studio-go-runner/e2e/airgap/docker"
)

// pullTimeout bounds the download of kind's node image, 400 MB.
const pullTimeout = 10 * time.Minute

// Choose returns the name of kind's published node image if it can be had and
// runs on this machine, and otherwise of ours, which it makes if need be. It says
// on progress which, and why.
func Choose(ctx context.Context, progress io.Writer) (string, error) {
	reason, err := notPublished(ctx, progress)
	if err != nil {
		return "", err
	}
	if reason == "" {
		fmt.Fprintf(progress, "nodes are kind's published image %s\n", defaults.Image)
		return defaults.Image, nil
	}
	ours, err := Ensure(ctx, progress)
	if err != nil {
		return "", fmt.Errorf("%s; %w", reason, err)
	}
	fmt.Fprintf(progress, "nodes are our own image %s, because %s\n", ours, reason)
	return ours, nil
}

// notPublished says why the published image is not used, or "".
func notPublished(ctx context.Context, progress io.Writer) (string, error) {
	cgroups, err := docker.Run(ctx, "info", "--format={{.CgroupVersion}}")
	if err != nil {
		return "", err
	}
	if cgroups == "1" {
		return "the systemd of kind's published image needs cgroup v2, and this machine has v1", nil
	}
	if _, err := docker.Run(ctx, "image", "inspect", "--format={{.Id}}", defaults.Image); err == nil {
		return "", nil
	}
	ours, err := Tag(ctx)
	if err != nil {
		return "", err
	}
	if present, err := docker.HasImage(ctx, ours); err != nil || present {
		return "it was made here before, and kind's published image is not there", err
	}
	fmt.Fprintf(progress, "pulling kind's node image %s\n", defaults.Image)
	limited, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	if _, err := docker.Run(limited, "pull", "--quiet", defaults.Image); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "kind's published image cannot be pulled: " + err.Error(), nil
	}
	return "", nil
}
