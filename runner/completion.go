package main

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type Completion struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Which shell: ${enum}. For it to last: echo 'source <(runner completion bash)' >>~/.bashrc; likewise in zsh; in fish: runner completion fish | source."`
}

//go:embed completion.bash completion.zsh completion.fish
var completions embed.FS

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
	if len(c.Words) == 0 {
		c.Words = []string{""}
	}
	before, last := c.Words[:len(c.Words)-1], c.Words[len(c.Words)-1]
	node := kctx.Model.Node
	for _, word := range before {
		if word == "--" {
			return nil // what follows is a command of others
		}
		if i := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word }); i >= 0 {
			node = node.Children[i]
		}
	}
	var found []string
	for _, child := range node.Children {
		if !child.Hidden {
			found = append(found, child.Name)
		}
	}
	for _, value := range node.Positional {
		found = append(found, value.EnumSlice()...)
	}
	for _, flag := range slices.Concat(node.AllFlags(true)...) {
		if flag.IsBool() {
			found = append(found, "--"+flag.Name)
			continue
		}
		for _, value := range flag.EnumSlice() { // "" where any is taken
			found = append(found, "--"+flag.Name+"="+value)
		}
	}
	for _, word := range found {
		if strings.HasPrefix(word, last) && word != "" && (last != "" || word[0] != '-') {
			fmt.Fprintln(stdio.Out, word)
		}
	}
	return nil
}
