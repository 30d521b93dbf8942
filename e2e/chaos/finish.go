package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// What an idle runner may have. A fresh one has about 20 descriptors, 40 goroutines
// and 45 MB; the rest is for what comes and goes.
const (
	maxDescriptors = 48
	maxGoroutines  = 80
	maxResidentKB  = 120 << 10
)

// settle waits until nothing is left to do, and looks at what the idle runners have.
func (a *Arena) settle(ctx context.Context, runners []*Runner) {
	for !a.queue.empty(ctx) {
		if wait(ctx, 250*time.Millisecond); ctx.Err() != nil {
			return // the checker says what is missing
		}
	}
	for _, r := range runners {
		if p := r.living(ctx); p != nil {
			a.look(ctx, p)
		}
	}
}

// look notes what an idle runner has too much of.
func (a *Arena) look(ctx context.Context, p *process) {
	var have [3]int
	for try := 0; ; try++ { // connections and goroutines may be about to end
		descriptors := -1 // only root may count those of a process that is not dumpable
		if open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)); err == nil && len(open) > 0 {
			descriptors = len(open)
		}
		have = [3]int{descriptors, p.goroutines(ctx), residentKB(p.cmd.Process.Pid)}
		if have[0] <= maxDescriptors && have[1] <= maxGoroutines || try == 20 || ctx.Err() != nil {
			break
		}
		wait(ctx, time.Second/2)
	}
	for i, what := range []struct {
		name string
		most int
	}{{"descriptors", maxDescriptors}, {"goroutines", maxGoroutines}, {"kB of memory", maxResidentKB}} {
		if have[i] > what.most {
			a.left("%s is idle and has %d %s, allowed are %d", p.life.Name, have[i], what.name, what.most)
		}
	}
	fmt.Printf("%s, idle: %d descriptors, %d goroutines, %d kB\n", p.life.Name, have[0], have[1], have[2])
}

// goroutines asks the process how many it has.
func (p *process) goroutines(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	select {
	case address := <-p.address:
		p.address <- address
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
		if err != nil {
			return -1
		}
		response, err := client.Do(request)
		if err != nil {
			return -1
		}
		defer response.Body.Close()
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			if n, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
				number, _ := strconv.Atoi(n)
				return number
			}
		}
	case <-ctx.Done():
	}
	return -1
}

// residentKB is the memory of a process.
func residentKB(pid int) (kb int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if _, after, ok := strings.Cut(string(status), "VmRSS:"); ok {
		_, _ = fmt.Sscan(after, &kb)
	}
	return kb
}

// end asks all runners to end, and waits until they have.
func (a *Arena) end(runners []*Runner) {
	var asked []*process
	for _, r := range runners {
		r.mu.Lock()
		if r.now != nil {
			r.now.signal(syscall.SIGTERM)
			asked = append(asked, r.now)
		}
		r.mu.Unlock()
	}
	for _, p := range asked {
		p.end(a)
	}
}

// sweep has one more life of each runner remove what others could not, as on a disk
// that was read-only. What is in tmp/ counts as left when it is old.
func (a *Arena) sweep(ctx context.Context, runners []*Runner) error {
	old := time.Now().Add(-24 * time.Hour)
	files, err := filepath.Glob(a.path("disk/spool/tmp/*"))
	for _, path := range files {
		err = errors.Join(err, os.Chtimes(path, old, old))
	}
	for _, r := range runners {
		p, failed := r.start()
		if failed != nil {
			return errors.Join(err, failed)
		}
		p.goroutines(ctx) // it serves, so it has swept
		p.signal(syscall.SIGTERM)
		p.end(a)
		a.record.Lives = append(a.record.Lives, p.life)
	}
	return err
}

// collect reads what is left once all runners have ended.
func (a *Arena) collect(ctx context.Context) error {
	a.record.Dead = map[string]api.DeadLetter{}
	gone, cancel := context.WithTimeout(ctx, time.Minute) // a supervisor ends what a killed runner has left
	defer cancel()
	pids := a.processes()
	for ; len(pids) > 0 && gone.Err() == nil; pids = a.processes() {
		wait(gone, 100*time.Millisecond)
	}
	for _, pid := range pids {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		a.left("process %d outlived its runner: %s", pid, strings.ReplaceAll(string(line), "\x00", " "))
	}
	notes, err := readNotes(a.path("notes/journal"))
	a.record.Notes = notes
	return errors.Join(err, a.leftBelow("tmp/*/*"), a.queue.read(ctx))
}
