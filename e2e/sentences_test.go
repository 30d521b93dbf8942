package e2e_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"mvdan.cc/sh/v3/syntax"

	"github.com/studioml/studio-go-runner/e2e/engine"
)

// sentenceSpecs look at what nobody types: what the documents have in sentences and
// tables, and in blocks that need more than there is here.
func sentenceSpecs() {
	It("the documents name commands, flags, variables and files that there are", Label("area:documents"), SpecTimeout(engine.Stretch(10*time.Minute)), func(ctx SpecContext) {
		kubectl, err := newKubectl("")
		Expect(err).NotTo(HaveOccurred())
		known, err := newPrograms(ctx, map[string]string{
			"runner": cmp.Or(config.client, config.runner), "kubectl": kubectl.program,
			"fakegpu": filepath.Join("..", "bin", "fakegpu"), "bin/e2e": filepath.Join("..", "bin", "e2e"), "make": "make",
		})
		Expect(err).NotTo(HaveOccurred())
		var problems []error
		kinds, done := map[string]int{}, map[string]bool{}
		all, err := texts()
		Expect(err).NotTo(HaveOccurred())
		for name, text := range all {
			for _, words := range known.named(text) {
				line := strings.Join(words, " ")
				if kinds[kindOf(words)]++; done[line] {
					continue
				}
				done[line] = true
				if err := known.check(ctx, words); err != nil {
					problems = append(problems, fmt.Errorf("%s, %s: %w", name, line, err))
				}
			}
		}
		if err := errors.Join(problems...); err != nil {
			Fail(err.Error())
		}
		// Else they are not found any more.
		for _, kind := range []string{"runner", "kubectl", "fakegpu", "bin/e2e", "make", "flag", "variable", "file"} {
			Expect(kinds).To(HaveKey(kind))
		}
	})
}

// programs are those that documents name, and what the help of all of them has.
type programs struct {
	paths    map[string]string
	makefile string // its targets and its help
	flags    string // of all commands, and their variables
}

var command = regexp.MustCompile(`(?m)^  ([a-z]+(?: [a-z-]+)?)(?: [<\[]|  |$)`) // of a program's help

func newPrograms(ctx context.Context, paths map[string]string) (p programs, err error) {
	p.paths = paths
	for _, program := range []string{"runner", "fakegpu", "kubectl"} {
		list, err := exec.CommandContext(ctx, paths[program], "--help").Output()
		if err != nil {
			return p, fmt.Errorf("ask %s for its help: %w", program, err)
		}
		for _, found := range command.FindAllStringSubmatch(string(list), -1) {
			if found[1] == program {
				continue // how it is used at all
			}
			text, err := exec.CommandContext(ctx, paths[program], append(strings.Fields(found[1]), "--help")...).Output()
			if err != nil {
				return p, fmt.Errorf("ask %s %s for its help: %w", program, found[1], err)
			}
			p.flags += string(text)
		}
	}
	for file, into := range map[string]*string{
		"Makefile": &p.makefile, "runner/deploy/image.mk": &p.makefile, "fakegpu/fakegpu.mk": &p.makefile, "fakegpu/shim/call.c": &p.flags,
	} {
		text, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			return p, err
		}
		*into += string(text)
	}
	return p, nil
}

var (
	spans       = regexp.MustCompile("`([^`\n]+)`")
	assignment  = regexp.MustCompile(`^[A-Z][A-Z0-9_]*=`)
	metavar     = regexp.MustCompile(`<\w+>`)
	path        = regexp.MustCompile(`^(runner|e2e|fakegpu|scenarios)/[\w./-]*$`)
	placeholder = strings.NewReplacer("…", "", "[", "", "]", "", " N", " 1", "go run ./e2e/cmd/e2e", "bin/e2e", "bin/fakegpu", "fakegpu")
)

// named are the lines of a text: each is the words of a command, or one word that is a
// flag, a variable or a file.
func (p programs) named(text string) (lines [][]string) {
	for _, found := range fence.FindAllStringSubmatch(text, -1) {
		if found[1] == "sh" || found[1] == "" {
			lines = append(lines, p.calls(found[2])...)
		}
	}
	for _, found := range spans.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		span := found[1]
		switch {
		case strings.HasPrefix(span, "--"), assignment.MatchString(span), path.MatchString(span):
			lines = append(lines, []string{strings.Fields(span)[0]})
		default:
			lines = append(lines, p.calls(placeholder.Replace(metavar.ReplaceAllString(span, "")))...)
		}
	}
	return lines
}

// calls are the commands in a piece of shell that begin with a program's name, also
// behind -- of another one.
func (p programs) calls(script string) (lines [][]string) {
	file, err := syntax.NewParser().Parse(strings.NewReader(script), "")
	if err != nil {
		return nil // prose, or another language
	}
	syntax.Walk(file, func(node syntax.Node) bool {
		call, is := node.(*syntax.CallExpr)
		if !is {
			return true
		}
		var words []string
		for _, word := range call.Args {
			words = append(words, literal(word.Parts))
		}
		for len(words) > 0 {
			own, behind := words, []string(nil)
			if i := slices.Index(words, "--"); i >= 0 {
				own, behind = words[:i], words[i+1:]
			}
			if len(own) > 0 && p.paths[own[0]] != "" {
				lines = append(lines, own)
			}
			words = behind
		}
		return true
	})
	return lines
}

// kindOf says what a line is: the name of its program, or another word.
func kindOf(words []string) string {
	switch first := words[0]; {
	case strings.HasPrefix(first, "--"):
		return "flag"
	case assignment.MatchString(first):
		return "variable"
	case path.MatchString(first):
		return "file"
	default:
		return first
	}
}

// gone are flags of which a document says that they are there no more.
var gone = []string{"--export", "--limits"}

// check says what is wrong with a line. Of a program's flags the program itself knows
// best: with those of the line it is asked for its help, twice, for a sentence may leave
// out what the last flag is given.
func (p programs) check(ctx context.Context, words []string) error {
	name, _, _ := strings.Cut(words[0], "=")
	switch kindOf(words) {
	case "flag":
		if !regexp.MustCompile(name+`\b[^-]`).MatchString(p.flags) && !slices.Contains(gone, name) {
			return errors.New("no command of runner, fakegpu and kubectl has that flag")
		}
	case "variable":
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(p.flags) {
			return p.makes(words)
		}
	case "file":
		_, err := os.Stat(filepath.Join("..", name))
		return err
	case "make":
		return p.makes(words[1:])
	default:
		args := slices.DeleteFunc(slices.Clone(words[1:]), func(word string) bool { return slices.Contains(gone, word) })
		if out, err := exec.CommandContext(ctx, p.paths[words[0]], append(args, "--help", "--help")...).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// makes says which target or variable make's help does not name.
func (p programs) makes(words []string) error {
	for _, word := range words {
		variable, _, is := strings.Cut(word, "=")
		if is && !regexp.MustCompile(`(?m)printf .*\b`+variable+`\b`).MatchString(p.makefile) {
			return fmt.Errorf("make help has no variable %s", variable)
		}
		if !is && !regexp.MustCompile(`(?m)^([\w./-]+ )*`+regexp.QuoteMeta(word)+`( [\w./-]+)*:`).MatchString(p.makefile) {
			return fmt.Errorf("make has no target %s", word)
		}
	}
	return nil
}

// literal is a word as a program gets it; what a variable has is some text.
func literal(parts []syntax.WordPart) (text string) {
	for _, part := range parts {
		switch part := part.(type) {
		case *syntax.Lit:
			text += part.Value
		case *syntax.SglQuoted:
			text += part.Value
		case *syntax.DblQuoted:
			text += literal(part.Parts)
		default:
			text += "1"
		}
	}
	return text
}
