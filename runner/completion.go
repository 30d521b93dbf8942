package main

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Completion is the completion command.
type Completion struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Which shell: ${enum}. For it to last: echo 'source <(runner completion bash)' >>~/.bashrc; likewise in zsh; in fish: runner completion fish | source."`
}

//go:embed completion.bash completion.zsh completion.fish
var completions embed.FS

// Run prints what the shell is to read.
func (c *Completion) Run(stdio stdio) error {
	text, err := completions.ReadFile("completion." + c.Shell)
	fmt.Fprint(stdio.Out, string(text))
	return err
}

// Complete is what the shells ask: it prints what the last word may become.
type Complete struct {
	Words []string `arg:"" optional:""`
}

// Run walks along the words to the command to which the last one belongs.
func (c *Complete) Run(kctx *kong.Context, stdio stdio) error {
	node, flags, last := kctx.Model.Node, kctx.Model.Flags, ""
	for i, word := range c.Words {
		child := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word })
		if last = word; i < len(c.Words)-1 && child >= 0 {
			node = node.Children[child]
			flags = append(slices.Clone(flags), node.Flags...)
		}
	}
	before := c.Words[:max(0, len(c.Words)-1)]
	var found []string
	for _, child := range node.Children {
		if !child.Hidden {
			found = append(found, child.Name)
		}
	}
	for _, value := range node.Positional {
		found = append(found, choices(value)...)
	}
	for _, flag := range flags {
		values := choices(flag.Value)
		if len(values) == 0 && !flag.IsBool() {
			values = []string{""}
		}
		for _, value := range values {
			found = append(found, "--"+flag.Name+"="+value)
		}
		if flag.IsBool() {
			found = append(found, "--"+flag.Name)
		}
	}
	for _, word := range found {
		if strings.HasPrefix(word, last) && word != "" && (last != "" || word[0] != '-') && !slices.Contains(before, "--") {
			fmt.Fprintln(stdio.Out, word)
		}
	}
	return nil
}

// choices are the values of which one must be taken; none where any is taken.
func choices(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return v.EnumSlice()
}
