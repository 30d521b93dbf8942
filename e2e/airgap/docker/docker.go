// Package docker finds a Docker daemon that answers, or starts one of its own.
//
// Its own daemon has a socket, a pid file and an exec root of its own and is
// stopped with the process that started it, unless it is to be kept. Its images
// survive it: what took long to make is there in the next run.
package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// answerTimeout is how long a daemon may take to say its version. An idle one
// takes 50 ms; a daemon that hangs must not hang the tests.
const answerTimeout = 10 * time.Second

// Options say how a daemon is used.
type Options struct {
	// Keep leaves a daemon that Ensure starts running when this process ends.
	Keep bool
	// Progress is told what is found and done.
	Progress io.Writer
}

// Docker is a daemon that answers.
type Docker struct {
	// Host is what DOCKER_HOST must be to reach it, or "" if the user's own
	// settings lead to it.
	Host string

	daemon *daemon // nil unless Close is to stop it
}

// Ensure returns a daemon that answers: the one that the user's own settings
// lead to, or one that an earlier run left, or one that it starts.
func Ensure(ctx context.Context, o Options) (*Docker, error) {
	foreign := answers(ctx, "")
	if foreign == nil {
		return &Docker{}, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := startable(foreign); err != nil {
		return nil, err
	}
	d, err := standard.ensure(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start Docker: %w", err)
	}
	return d, nil
}

// Usable says why Ensure would not find or start a daemon, and starts nothing.
// It returns nil if there is no such reason.
func Usable(ctx context.Context) error {
	err := answers(ctx, "")
	if err == nil {
		return nil
	}
	return startable(err)
}

// startable says why no daemon can be started in place of the one that does not
// answer, for the reason given.
func startable(foreign error) error {
	unusable := func(reason string) error {
		return fmt.Errorf("Docker is not usable: %w; %s", foreign, reason)
	}
	if errors.Is(foreign, exec.ErrNotFound) {
		return unusable("install Docker, as with: apt-get install docker.io")
	}
	for _, name := range []string{"DOCKER_HOST", "DOCKER_CONTEXT"} {
		if value := os.Getenv(name); value != "" {
			return unusable(fmt.Sprintf("%s is %q: start that daemon, or unset the variable", name, value))
		}
	}
	if reason := whyNotStartable(); reason != "" {
		return unusable("start it, or make it accessible to this user; it is not started here because " + reason)
	}
	return nil
}

// answers returns nil if the daemon at host says its version, and otherwise why
// it does not. The empty host is what the user's settings say.
func answers(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	d := Docker{Host: host}
	var stderr strings.Builder
	cmd := d.Command(ctx, "version", "--format={{.Server.Version}}")
	cmd.Stderr = &stderr
	err := cmd.Run()
	switch {
	case err == nil || errors.Is(err, exec.ErrNotFound):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("docker version: no answer in %s: %w", answerTimeout, ctx.Err())
	case strings.TrimSpace(stderr.String()) != "":
		return errors.New(strings.TrimSpace(stderr.String()))
	}
	return fmt.Errorf("docker version: %w", err)
}

// Command is a docker command for this daemon. It ends with ctx.
func (d *Docker) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = d.Environ()
	cmd.WaitDelay = 5 * time.Second // for what it started, which holds its output open
	return cmd
}

// Run runs a docker command and returns its output; the error has what it says.
func (d *Docker) Run(ctx context.Context, args ...string) (string, error) {
	out, err := d.Command(ctx, args...).Output()
	if err == nil {
		return strings.TrimSpace(string(out)), nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return "", fmt.Errorf("docker %s: %w", strings.Join(args, " "), err)
}

// HasImage says whether the daemon has an image of that name.
func (d *Docker) HasImage(ctx context.Context, name string) (bool, error) {
	out, err := d.Run(ctx, "image", "ls", "--quiet", "--no-trunc", name)
	return out != "", err
}

// Environ is the environment for programs that are to reach the daemon.
func (d *Docker) Environ() []string {
	if d.Host == "" {
		return os.Environ()
	}
	return append(os.Environ(), "DOCKER_HOST="+d.Host)
}

// Close stops the daemon if this Docker started it and need not keep it. Its
// containers end with it.
func (d *Docker) Close() error {
	if d.daemon == nil {
		return nil
	}
	return d.daemon.stop()
}
