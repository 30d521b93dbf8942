package main

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/runner/internal/fleet"
)

// Completion is the completion command.
type Completion struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Which shell: ${enum}. For it to last, as in: echo 'source <(runner completion bash)' >>~/.bashrc; in fish: runner completion fish | source."`
}

//go:embed completion.bash completion.zsh completion.fish
var completions embed.FS

// Run prints what the shell is to read.
func (c *Completion) Run(stdio stdio) error {
	text, err := completions.ReadFile("completion." + c.Shell)
	if err == nil {
		_, err = stdio.Out.Write(text)
	}
	return err
}

// Complete is what the shells ask: it prints what the last word may become.
type Complete struct {
	Words []string `arg:"" optional:""`
}

// Run walks along the words to where the last one stands.
func (c *Complete) Run(ctx context.Context, kctx *kong.Context, stdio stdio) error {
	words := append([]string{""}, c.Words...)
	last, node, flags := words[len(words)-1], kctx.Model.Node, kctx.Model.Flags
	given := map[string]string{}
	var open *kong.Flag // that waits for its value
	for _, word := range words[1:max(1, len(words)-1)] {
		name, value, joined := strings.Cut(word, "=")
		child := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word })
		switch flag := flagOf(flags, name); {
		case word == "--":
			return nil // the words of a command, or files
		case open != nil:
			given[open.Name], open = word, nil
		case flag != nil && joined:
			given[flag.Name] = value
		case flag != nil && !flag.IsBool():
			open = flag
		case child >= 0:
			node = node.Children[child]
			flags = append(slices.Clone(flags), node.Flags...)
		}
	}
	name, _, joined := strings.Cut(last, "=")
	var found []string
	switch {
	case open != nil:
		found = open.EnumSlice()
	case strings.HasPrefix(last, "-") && joined:
		if flag := flagOf(flags, name); flag != nil {
			for _, value := range flag.EnumSlice() {
				found = append(found, name+"="+value)
			}
		}
	case strings.HasPrefix(last, "-"):
		for _, flag := range flags {
			found = append(found, "--"+flag.Name+map[bool]string{false: "="}[flag.IsBool()])
		}
	case len(node.Children) > 0:
		for _, child := range node.Children {
			if !child.Hidden {
				found = append(found, child.Name)
			}
		}
	case len(node.Positional) > 0 && node.Positional[0].Name == "name":
		found = runnerNames(ctx, given)
	case len(node.Positional) > 0:
		found = node.Positional[0].EnumSlice()
	}
	for _, word := range found {
		if word != "" && strings.HasPrefix(word, last) {
			fmt.Fprintln(stdio.Out, word)
		}
	}
	return nil
}

func flagOf(flags []*kong.Flag, word string) *kong.Flag {
	for _, flag := range flags {
		if word == "--"+flag.Name || flag.Short != 0 && word == "-"+string(flag.Short) {
			return flag
		}
	}
	return nil
}

// runnerNames asks the cluster, which a shell does not wait for.
func runnerNames(ctx context.Context, given map[string]string) []string {
	const limit = 3 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	f := Fleet{Cluster: Cluster{given["kubeconfig"], given["namespace"]}, Selector: fleet.Selector}
	if f.connect() != nil {
		return nil
	}
	runners, _ := f.read(ctx)
	runners = slices.DeleteFunc(runners, func(r fleet.Runner) bool { return r.Stray })
	return runnerViews{runners}.names()
}
