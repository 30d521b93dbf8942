// Package docker finds a Docker daemon that answers, or starts one of its own.
//
// Its own daemon has a socket, a pid file and an exec root of its own and is
// stopped with the process that started it, unless it is to be kept. Its images
// survive it: what took long to make is there in the next run.
package docker

import (
	"bytes"
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

// Ensure sees to it that a daemon answers: the one that the user's own settings
// lead to, or one that an earlier run left, or one that it starts; DOCKER_HOST is
// set then. A daemon that it starts goes on until stop is called, or with keep. It
// tells on progress what is found and done.
func Ensure(ctx context.Context, keep bool, progress io.Writer) (stop func() error, err error) {
	foreign := answers(ctx)
	if foreign == nil {
		return func() error { return nil }, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := startable(foreign); err != nil {
		return nil, err
	}
	stop, err = standard.ensure(ctx, keep, progress)
	if err != nil {
		return nil, fmt.Errorf("start Docker: %w", err)
	}
	return stop, nil
}

// Usable says why Ensure would not find or start a daemon, and starts nothing.
// It returns nil if there is no such reason.
func Usable(ctx context.Context) error {
	err := answers(ctx)
	if err == nil {
		return nil
	}
	return startable(err)
}

// startable says why no daemon can be started in place of the one that does not
// answer, for the reason given.
func startable(foreign error) error {
	unusable := func(reason string) error {
		return fmt.Errorf("no Docker is usable: %w; %s", foreign, reason)
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

// answers returns nil if the daemon says its version, and otherwise why it does not.
func answers(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_, err := Run(limited, "version", "--format={{.Server.Version}}")
	if limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("docker version: no answer in %s: %w", answerTimeout, limited.Err())
	}
	return err
}

// Command is a docker command. It ends with ctx.
func Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.WaitDelay = 5 * time.Second // for what it started, which holds its output open
	return cmd
}

// Run runs a docker command and returns its output; the error has what it says.
func Run(ctx context.Context, args ...string) (string, error) {
	out, err := Command(ctx, args...).Output()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	if err != nil {
		return "", fmt.Errorf("docker %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// HasImage says whether the daemon has an image of that name.
func HasImage(ctx context.Context, name string) (bool, error) {
	out, err := Run(ctx, "image", "ls", "--quiet", "--no-trunc", name)
	return out != "", err
}
