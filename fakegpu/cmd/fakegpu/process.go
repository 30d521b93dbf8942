package main

import (
	"fmt"
	"strings"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// process is a process that uses a GPU.
type process fakegpu.Process

// UnmarshalText takes PID=BYTES, and after commas type, sm and name, of which
// the name comes last, because it may have commas itself.
func (p *process) UnmarshalText(text []byte) error {
	first, more, _ := strings.Cut(string(text), ",")
	pid, memory, _ := strings.Cut(first, "=")
	*p = process{Type: "compute", Name: "process-" + pid}
	var ok [2]bool
	p.PID, ok[0] = fakegpu.ParseNumber(pid)
	p.Memory, ok[1] = fakegpu.ParseNumber(memory)
	if !ok[0] || !ok[1] {
		return fmt.Errorf("process is %.120q, must be PID=BYTES, as 1234=2Gi", text)
	}
	for more != "" {
		key, value, _ := strings.Cut(more, "=")
		if key == "name" {
			p.Name = value
			return nil
		}
		value, more, _ = strings.Cut(value, ",")
		switch key {
		case "type":
			p.Type = value
		case "sm":
			n, ok := fakegpu.ParseNumber(value)
			if !ok {
				return fmt.Errorf("sm is %.120q, must be a percentage, as 30", value)
			}
			p.SM = n
		default:
			return fmt.Errorf("%.120q is no key of a process; the keys are type, sm, name", key)
		}
	}
	return nil
}
