package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// Format is the format of the scenarios that the engine can play. A verb is added
// where it is done, in a file verb_*.go; a fact is a row of the table in facts.go.
var Format = &scenario.Format{Facts: termsOf(factTable)}

// verbs are how steps are done. The files that do them fill it with add.
var verbs = map[string]func(value any, ctx context.Context, p *play) error{}

// add makes a verb part of the format. What stands behind it is do's first parameter, so
// that do may be a method of its type.
func add[V any](v scenario.Term, do func(V, context.Context, *play) error) {
	verbs[v.Name] = func(value any, ctx context.Context, p *play) error { return do(value.(V), ctx, p) }
	v.Type = reflect.TypeFor[V]()
	Format.Verbs = append(Format.Verbs, v)
	slices.SortFunc(Format.Verbs, func(a, b scenario.Term) int { return strings.Compare(a.Name, b.Name) })
}

// does is what each word of a verb does, with the Env or with a part of it that only
// some targets have.
type does[C any] map[string]func(C, context.Context) error

// addSwitch makes a verb that has one of a few words.
func addSwitch[C any](v scenario.Term, does does[C]) {
	v.Rules = scenario.OneOf(slices.Sorted(maps.Keys(does))...)
	add(v, func(word string, ctx context.Context, p *play) error {
		return with(p, func(c C) error { return does[word](c, ctx) })
	})
}

// each calls do for several subjects, in their order.
func each[S ~string](subjects []S, do func(S) error) error {
	for _, s := range subjects {
		if err := do(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// eachOf calls do with what is said of several subjects, in the order of their names.
func eachOf[S ~string, V any](all map[S]V, do func(S, V) error) error {
	return each(slices.Sorted(maps.Keys(all)), func(s S) error { return do(s, all[s]) })
}

// with does something with an ability of the Env that only some targets have.
func with[C any](p *play, do func(C) error) error {
	c, ok := p.env.(C)
	if !ok {
		return errors.New("the target said that it can do this, but its Env cannot")
	}
	return do(c)
}
