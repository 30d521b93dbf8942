package fakegpu

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWatchTellsTheCauseBeforeTheEvent has a change, and its event, come right
// after watch has read the state: the state file is a pipe, so that the test
// knows when.
func TestWatchTellsTheCauseBeforeTheEvent(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	if _, err := Create(dir, Spec{Profile: "T4", Count: 1}); err != nil {
		t.Fatal(err)
	}
	before, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	uuid := before.GPUs[0].UUID
	if err := RaiseXid(dir, "0", 79); err != nil {
		t.Fatal(err)
	}
	changed, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "events"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{state, filepath.Join(dir, "events")} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}

	if err := syscall.Mkfifo(state, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(state, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	readers, err := syscall.InotifyInit()
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(readers)
	if _, err := syscall.InotifyAddWatch(readers, state, syscall.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	fed := make(chan error)
	go func() {
		_, err := syscall.Read(readers, make([]byte, 1024)) // waits for one
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "events"), text, 0o600)
		}
		if err == nil {
			_, err = pipe.Write(old)
		}
		if err == nil {
			err = pipe.Close()
		}
		fed <- err
	}()
	var out bytes.Buffer
	w := journal{dir}
	now, from, err := w.look(&out, before, place{})
	if err := <-fed; err != nil {
		t.Fatal(err)
	}
	if err != nil || out.String() != "" {
		t.Errorf("watch has seen the old state, and prints %q, %v", out.String(), err)
	}
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	if now, from, err = w.look(&out, now, from); err != nil || from.read != int64(len(text)) || now.GPUs[0].Numbers["recovery_action"] != 1 {
		t.Errorf("watch has read %v of %d bytes of the journal, %v", from, len(text), err)
	}
	want := "TIME  " + uuid + "  recovery_action 0 -> 1\nTIME  " + uuid + "  event Xid 79\n" +
		"TIME  " + uuid + "  event recovery-action 1\n"
	if diff := cmp.Diff(want, regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d`).ReplaceAllString(out.String(), "TIME")); diff != "" {
		t.Errorf("watch (-want +got):\n%s", diff)
	}
}

// TestWatchGoesOnWithANewDirectory as other clients do: it tells what has changed
// from the old one to the new one, and the events of the new one.
func TestWatchGoesOnWithANewDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	create := func() Machine {
		if _, err := Create(dir, Spec{Profile: "T4", Count: 1}); err != nil {
			t.Fatal(err)
		}
		m, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := create()
	for range 3 {
		if err := RaiseXid(dir, "0", 31); err != nil {
			t.Fatal(err)
		}
	}
	w := journal{dir}
	at, _, err := w.read(place{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if m, at, err = w.look(&out, m, at); err != nil || out.Len() > 0 {
		t.Fatalf("without a directory watch prints %q, %v", out.String(), err)
	}
	create()
	if err := RaiseXid(dir, "0", 45); err != nil {
		t.Fatal(err)
	}
	if _, _, err = w.look(&out, m, at); err != nil || !bytes.HasSuffix(out.Bytes(), []byte("event Xid 45\n")) || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
		t.Errorf("of the new directory watch prints %q, %v", out.String(), err)
	}
}

// TestWatchTellsEachChangeOnce: of the driver and the MIG devices as well, and
// not of a counter that grows.
func TestWatchTellsEachChangeOnce(t *testing.T) {
	dir := t.TempDir()
	if _, err := Create(dir, Spec{Profile: "H100-80GB", Count: 2}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		do   func() error
		want []string
	}{
		{func() error { return SetLoad(dir, "1", 100) }, nil}, // what it changes, others test
		{func() error { return SetMachine(dir, "driver=595.91.07", "cuda=13.2") }, []string{
			"machine  driver 580.95.05 -> 595.91.07", "machine  nvml 13.580.95.05 -> 13.595.91.07", "machine  cuda 13000 -> 13020"}},
		{func() error { return SplitMIG(dir, "0", "1g.10gb", "1g.10gb") }, []string{
			"GPU-0  MIG devices none -> 1g.10gb 1g.10gb", "GPU-0  mig_mode 0 -> 1"}},
		{func() error { return SplitMIG(dir, "0", "3g.40gb", "3g.40gb") }, []string{
			"GPU-0  MIG devices 1g.10gb 1g.10gb -> 3g.40gb 3g.40gb"}},
		{func() error { return Set(dir, "1", "energy=7") }, []string{"GPU-1  energy MORE -> 7"}},
	} {
		before, err := Load(dir)
		if err == nil {
			err = step.do()
		}
		if err != nil {
			t.Fatal(err)
		}
		now, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(differences(before, now), "\n")
		if step.want == nil {
			if strings.Contains(got, "since") || strings.Contains(got, "counted_from") {
				t.Errorf("watch tells of the time that counters grow from:\n%s", got)
			}
			continue
		}
		got = strings.NewReplacer(now.GPUs[0].UUID, "GPU-0", now.GPUs[1].UUID, "GPU-1").Replace(got)
		got = regexp.MustCompile(`energy \d+`).ReplaceAllString(got, "energy MORE")
		if diff := cmp.Diff(strings.Join(step.want, "\n"), got); diff != "" {
			t.Errorf("differences (-want +got):\n%s", diff)
		}
	}
}

func TestWatchTellsWhoseAnEventIs(t *testing.T) {
	dir := t.TempDir()
	if _, err := Create(dir, Spec{Profile: "H100-80GB", Count: 1}); err != nil {
		t.Fatal(err)
	}
	if err := SplitMIG(dir, "0", "1g.10gb"); err != nil {
		t.Fatal(err)
	}
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := journal{dir}
	at, _, err := w.read(place{})
	if err != nil {
		t.Fatal(err)
	}
	d := m.GPUs[0].MIGs[0]
	for _, whose := range []string{d.UUID, "0"} {
		if err := RaiseXid(dir, whose, 43); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	_, _, err = w.look(&out, m, at)
	for _, want := range []string{"event Xid 43\n", fmt.Sprintf("event Xid 43, GI %d CI %d\n", d.GI, d.CI)} {
		if err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("watch does not print %q: %v\n%s", want, err, out.String())
		}
	}
}

func TestWatchTellsOfProcesses(t *testing.T) {
	a, b := Process{PID: 1, Type: "compute", Memory: 5, SM: 3, Name: "x"}, Process{PID: 2, Type: "mps", Name: "y"}
	machine := func(processes ...Process) Machine {
		return Machine{GPUs: []GPU{{UUID: "GPU-1", Processes: processes}}}
	}
	got := differences(machine(b), machine(a))
	if diff := cmp.Diff([]string{"GPU-1  process 1 (x, compute) uses 5 bytes, 3 %", "GPU-1  process 2 is gone"}, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}

// TestWatchRepeatsNothing of a journal that was cut.
func TestWatchRepeatsNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := Create(dir, Spec{Profile: "T4", Count: 1}); err != nil {
		t.Fatal(err)
	}
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, xid := range []uint64{13, 31} {
		if err := RaiseXid(dir, "0", xid); err != nil {
			t.Fatal(err)
		}
	}
	w := journal{dir}
	at, _, err := w.read(place{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(w.dir+"/events", at.read-10); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if m, at, err = w.look(&out, m, at); err != nil || out.Len() > 0 {
		t.Errorf("of a journal that was cut watch prints %q, %v", out.String(), err)
	}
	if err := RaiseXid(dir, "0", 45); err != nil {
		t.Fatal(err)
	}
	if _, _, err = w.look(&out, m, at); err != nil || strings.Count(out.String(), "event") != 1 || !strings.HasSuffix(out.String(), "event Xid 45\n") {
		t.Errorf("then watch prints %q, %v", out.String(), err)
	}
}
