package api

import (
	"fmt"
	"strconv"
	"strings"
)

// The files of an attempt's output.
const (
	StdoutFile = "stdout"
	StderrFile = "stderr"
)

// OutputPart names a part of an output that is still written: what comes behind the
// begin, whose size is head, and so many bytes more.
func OutputPart(file string, head, between int64) string {
	return fmt.Sprintf("%s.%d+%d", file, head, between)
}

// ParseOutputPart is the inverse of OutputPart.
func ParseOutputPart(file, name string) (head, between int64, ok bool) {
	rest, ok := strings.CutPrefix(name, file+".")
	if !ok {
		return 0, 0, false
	}
	first, second, _ := strings.Cut(rest, "+")
	head, err1 := strconv.ParseInt(first, 10, 64)
	between, err2 := strconv.ParseInt(second, 10, 64)
	return head, between, err1 == nil && err2 == nil && head >= 0 && between >= 0
}

// OutputMark stands where so many bytes of an output are left out.
func OutputMark(bytes int64) string { return "\n… " + Amount(bytes) + " left out …\n" }

// Amount writes a number of bytes for people.
func Amount(bytes int64) string {
	if bytes < 1<<10 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	n, unit := float64(bytes)/(1<<10), 0
	for ; n >= 1<<10 && unit < 2; unit++ {
		n /= 1 << 10
	}
	return fmt.Sprintf("%.1f %ciB", n, "KMG"[unit])
}
