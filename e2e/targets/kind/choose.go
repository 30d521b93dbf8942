package kind

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/defaults"

	"github.com/studioml/studio-go-runner/e2e/docker"
	"github.com/studioml/studio-go-runner/e2e/nodeimage"
)

// pullTimeout bounds the download of kind's node image, 400 MB.
const pullTimeout = 10 * time.Minute

// NodeImage is what nodes are made of.
type NodeImage struct {
	Name string
	// Ours says that it is nodeimage's, which has no pod network of its own.
	Ours bool
	// CgroupV1 says that the machine has cgroups that kubelet takes only when it
	// is told to.
	CgroupV1 bool
}

// ChooseNodeImage returns kind's published node image if it can be had and runs
// on this machine, and otherwise ours, which it makes if need be. It says on
// progress which, and why.
func ChooseNodeImage(ctx context.Context, d *docker.Docker, progress io.Writer) (NodeImage, error) {
	version, err := d.Run(ctx, "info", "--format={{.CgroupVersion}}")
	if err != nil {
		return NodeImage{}, err
	}
	image := NodeImage{Name: defaults.Image, CgroupV1: version == "1"}
	reason, err := notPublished(ctx, d, image, progress)
	if err != nil {
		return NodeImage{}, err
	}
	if reason == "" {
		fmt.Fprintf(progress, "nodes are kind's published image %s\n", image.Name)
		return image, nil
	}
	image.Ours = true
	if image.Name, err = nodeimage.Ensure(ctx, d, progress); err != nil {
		return NodeImage{}, fmt.Errorf("%s; %w", reason, err)
	}
	fmt.Fprintf(progress, "nodes are our own image %s, because %s\n", image.Name, reason)
	return image, nil
}

// notPublished says why the published image is not used, or "".
func notPublished(ctx context.Context, d *docker.Docker, published NodeImage, progress io.Writer) (string, error) {
	if published.CgroupV1 {
		return "the systemd of kind's published image needs cgroup v2, and this machine has v1", nil
	}
	if _, err := d.Run(ctx, "image", "inspect", "--format={{.Id}}", published.Name); err == nil {
		return "", nil
	}
	ours, err := nodeimage.Tag(ctx)
	if err != nil {
		return "", err
	}
	if present, err := d.HasImage(ctx, ours); err != nil || present {
		return "it was made here before, and kind's published image is not there", err
	}
	fmt.Fprintf(progress, "pulling kind's node image %s\n", published.Name)
	limited, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	if _, err := d.Run(limited, "pull", "--quiet", published.Name); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "kind's published image cannot be pulled: " + strings.TrimSpace(err.Error()), nil
	}
	return "", nil
}
