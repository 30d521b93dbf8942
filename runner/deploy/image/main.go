// Command image builds a container image from files of this machine, without
// Docker, and the same one each time: entries are sorted, owners and times are
// fixed. Without a base, the image is the files, and what of this machine's C
// library they need; with one, they are added to it.
//
// make image, make fakegpu-image and make tests-image call it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

type cli struct {
	Name   string `required:"" placeholder:"NAME:TAG" help:"The image's name."`
	Output string `required:"" short:"o" placeholder:"FILE" help:"The archive to write, for docker load, kind load image-archive and ctr images import."`
	Load   bool   `help:"Load the image into Docker as well, if there is one."`

	Base string   `help:"The image to add the files to: a root file system, image archive or OCI layout on the disk, else an image that Docker has, else one of a registry."`
	Add  []string `required:"" sep:"none" placeholder:"SRC=DST" help:"Add a file or a directory, with what is in it, as DST."`

	Sysroot string `placeholder:"DIR" help:"Where the C library is for programs of another processor, as /usr/aarch64-linux-gnu; without, it is this machine's."`

	Entrypoint string   `placeholder:"PATH" help:"The program that a container runs."`
	Env        []string `sep:"none" placeholder:"NAME=VALUE" help:"Set an environment variable."`
	User       string   `default:"65532:65532" help:"Whom it runs as."`

	Title      string `help:"What the image is, for people."`
	ImgVersion string `name:"version" help:"The version, for the label."`
	Revision   string `help:"The commit, for the label."`
	Created    int64  `env:"SOURCE_DATE_EPOCH" placeholder:"SECONDS" help:"When it was made, in seconds since 1970; the commit's time makes equal sources equal images."`
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	var c cli
	helped := false
	parser, err := kong.New(&c, kong.Name("image"), kong.Description("Build a container image from files, without Docker."),
		kong.Writers(out, errOut), kong.Exit(func(int) { helped = true }))
	if err != nil {
		panic(err) // the struct tags are wrong
	}
	_, err = parser.Parse(args)
	if helped {
		return 0
	}
	if err == nil {
		err = c.run(ctx, out)
	}
	if err != nil {
		fmt.Fprintln(errOut, "image:", err)
		return 1
	}
	return 0
}

func (c cli) run(ctx context.Context, out io.Writer) (err error) {
	tag, err := name.NewTag(c.Name)
	if err == nil && !strings.HasSuffix(c.Name, ":"+tag.TagStr()) {
		// An archive must name the tag.
		tag, err = name.NewTag(c.Name + ":" + tag.TagStr())
	}
	if err != nil {
		return fmt.Errorf("name of the image: %w", err)
	}
	for _, v := range c.Env {
		if i := strings.Index(v, "="); i < 1 {
			return fmt.Errorf("--env %q: must be NAME=VALUE", v)
		}
	}
	files := tree{}
	for _, add := range c.Add {
		if err := files.add(add); err != nil {
			return err
		}
	}

	architecture, err := files.architecture()
	if err != nil {
		return err
	}

	// What comes from Docker or a registry lies here while it is needed.
	work, err := os.MkdirTemp("", "image-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	from := scratch()
	if c.Base != "" {
		if from, err = openBase(ctx, c.Base, work, v1.Platform{OS: "linux", Architecture: architecture}); err != nil {
			return err
		}
		if err := from.suits(files, architecture); err != nil {
			return err
		}
	} else if from.libraries, err = libraries(ctx, files, c.Sysroot); err != nil {
		return err
	}
	image, err := c.assemble(from, files, architecture)
	if err != nil {
		return err
	}
	if err := write(c.Output, tag, image); err != nil {
		return err
	}
	if err := describe(out, tag, from.says, c.Output, image); err != nil {
		return err
	}
	if c.Load {
		return load(ctx, out, c.Output)
	}
	return nil
}

// created is the image's time.
func (c cli) created() v1.Time { return v1.Time{Time: time.Unix(c.Created, 0).UTC()} }

// write makes the archive, or leaves the one that was there.
func write(file string, tag name.Tag, image v1.Image) error {
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = tarball.WriteToFile(file+".new", tag, image)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		os.Remove(file + ".new")
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}

// describe prints what was made.
func describe(out io.Writer, tag name.Tag, base, file string, image v1.Image) error {
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	id, err := image.ConfigName()
	if err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	var packed, unpacked int64
	for _, layer := range layers {
		small, err := layer.Size()
		if err != nil {
			return err
		}
		large, err := partial.UncompressedSize(layer)
		if err != nil {
			return err
		}
		packed, unpacked = packed+small, unpacked+large
	}
	const mib = 1 << 20
	_, err = fmt.Fprintf(out, "image    %s\nbase     %s\ndigest   %s\nid       %s\nsize     %.1f MiB, unpacked %.1f MiB\narchive  %s\n",
		tag, base, digest, id, float64(packed)/mib, float64(unpacked)/mib, file)
	return err
}

// load gives the archive to Docker.
func load(ctx context.Context, out io.Writer, file string) error {
	const patience = 10 * time.Second // with a daemon that hangs
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := exec.CommandContext(asking, "docker", "version").Run(); err != nil {
		_, err := fmt.Fprintf(out, "docker   does not answer; later: docker load -i %s\n", file)
		return err
	}
	if text, err := exec.CommandContext(ctx, "docker", "load", "--quiet", "-i", file).CombinedOutput(); err != nil {
		return fmt.Errorf("docker load -i %s: %w: %s", file, err, text)
	}
	_, err := fmt.Fprintln(out, "docker   has loaded it")
	return err
}
