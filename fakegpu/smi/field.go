package smi

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// field is a property that can be asked for, of a T.
type field[T any] struct {
	names string // the first is its heading
	unit  string
	help  string
	read  func(T) (string, nvml.Return)

	// bare is for those few whose N/A has no brackets.
	bare bool
}

// pick finds the fields of a query.
func pick[T any](known []field[T], names string) ([]field[T], error) {
	var picked []field[T]
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		i := slices.IndexFunc(known, func(f field[T]) bool { return slices.Contains(strings.Fields(f.names), name) })
		if i < 0 {
			return nil, complain("Field %q is not a valid field to query.", name)
		}
		picked = append(picked, known[i])
	}
	return picked, nil
}

func (f field[T]) heading(units bool) string {
	name := strings.Fields(f.names)[0]
	if f.unit != "" && units {
		name += " [" + f.unit + "]"
	}
	return name
}

// value is what is printed of a field, and what NVML answered.
func (f field[T]) value(of T, units bool) (string, nvml.Return) {
	text, r := f.read(of)
	switch {
	case r != nvml.SUCCESS && f.bare && unknown(r):
		return "N/A", r
	case r != nvml.SUCCESS:
		return failure(r), r
	case units && f.unit != "":
		return text + " " + f.unit, r
	}
	return text, r
}

// unknown tells whether an answer means that there is no such value here, which
// is nothing wrong.
func unknown(r nvml.Return) bool {
	return r == nvml.ERROR_NOT_SUPPORTED || r == nvml.ERROR_FUNCTION_NOT_FOUND
}

// failure is what stands instead of a value.
func failure(r nvml.Return) string {
	switch {
	case unknown(r):
		return "[N/A]"
	case r == nvml.ERROR_DEPRECATED:
		return "[Requested functionality has been deprecated]"
	}
	return "[" + nvml.ErrorString(r) + "]"
}

// csv prints fields of some things and returns the exit code.
func csv[T any](fields []field[T], of []T, format format, first bool, out io.Writer) int {
	line := func(cell func(field[T]) string) {
		var cells []string
		for _, f := range fields {
			cells = append(cells, cell(f))
		}
		fmt.Fprintln(out, strings.Join(cells, ", "))
	}
	if first && !format.noheader {
		line(func(f field[T]) string { return f.heading(!format.nounits) })
	}
	code := exitSuccess
	for _, one := range of {
		line(func(f field[T]) string {
			text, r := f.value(one, !format.nounits)
			if r == nvml.ERROR_GPU_IS_LOST {
				code = exitCode(r)
			}
			return text
		})
	}
	return code
}

// The rest are ways to write a value.

// read makes the reader of a value that one call gives.
func read[V any](get func(nvml.Device) (V, nvml.Return), show func(V) string) func(*gpu) (string, nvml.Return) {
	return func(g *gpu) (string, nvml.Return) {
		v, r := get(g)
		return show(v), r
	}
}

// number is what NVML's whole numbers are.
type number interface {
	~int | ~int32 | ~int64 | ~uint8 | ~uint32 | ~uint64
}

func text(s string) string { return s }

func decimal[N number](n N) string { return fmt.Sprint(n) }

// watts writes milliwatts.
func watts[N number](milli N) string { return fmt.Sprintf("%.2f", float64(milli)/1000) }

// mebibytes rounds up: whatever is in use shows.
func mebibytes(n uint64) string { return strconv.FormatUint(n>>20+min(n&(1<<20-1), 1), 10) }

func enabled[N number](state N) string { return either(state != 0, "Enabled", "Disabled") }

func yes(is bool) string { return either(is, "Yes", "No") }

func either(is bool, this, that string) string {
	if is {
		return this
	}
	return that
}

// word writes a number by its place in a list.
func word[N number](n N, words ...string) string {
	if n >= 0 && int(n) < len(words) {
		return words[n]
	}
	return "Unknown"
}

func chars[C int8 | uint8](c []C) string {
	var s []byte
	for _, b := range c {
		if b == 0 {
			break
		}
		s = append(s, byte(b))
	}
	return string(s)
}
