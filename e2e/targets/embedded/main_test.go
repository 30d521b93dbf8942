package embedded_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/runner/api"
)

// The test binary is the runner, too, when it is called as one.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "fakegpu" {
		os.Exit(fakeFakeGPU(os.Args[1:]))
	}
	if len(os.Args) > 1 {
		flags, rest := map[string]string{}, []string{}
		for _, arg := range os.Args[2:] {
			if name, value, found := strings.Cut(strings.TrimPrefix(arg, "--"), "="); found {
				flags[name] = value
			} else {
				rest = append(rest, arg)
			}
		}
		switch os.Args[1] {
		case "serve":
			os.Exit(fakeServe(flags))
		case "submit":
			os.Exit(fakeSubmit(flags, rest))
		case "status":
			os.Exit(fakeStatus(flags))
		}
	}
	os.Exit(m.Run())
}

func fail(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	return 1
}

// fakeServe logs its environment, serves two statuses and a third one after
// SIGHUP, and ends with 143 after SIGTERM.
func fakeServe(flags map[string]string) int {
	if flags["orphan"] == "true" {
		orphan := exec.Command("sleep", "600")
		orphan.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := orphan.Start(); err != nil {
			return fail("start orphan: %v", err)
		}
	}
	if flags["exit"] == "now" {
		fmt.Fprint(os.Stderr, "cannot start, and this line has no end")
		return 1
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	listener, err := net.Listen("tcp", flags["listen"])
	if err != nil {
		return fail("listen: %v", err)
	}
	more := make(chan struct{})
	http.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the answer to /livez") })
	http.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "the answer to /readyz")
	})
	http.HandleFunc("GET /statusz", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "true" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		send := func(sequence uint64) {
			_ = json.NewEncoder(w).Encode(api.Status{Sequence: sequence, Runner: flags["name"]})
			_ = http.NewResponseController(w).Flush()
		}
		send(1)
		send(2)
		<-more
		send(3)
		<-r.Context().Done()
	})
	go func() { _ = http.Serve(listener, nil) }()

	log := json.NewEncoder(os.Stderr)
	_ = log.Encode(map[string]any{"msg": "environment", "env": os.Environ(), "args": os.Args[2:]})
	_ = log.Encode(map[string]any{"msg": "serving", "address": listener.Addr().String()})
	for sig := range signals {
		if sig == syscall.SIGHUP {
			close(more)
			continue
		}
		if flags["deaf"] == "true" {
			continue
		}
		break
	}
	if err := os.WriteFile(flags["termination-log"], []byte("drained after SIGTERM\n"), 0o644); err != nil {
		return fail("%v", err)
	}
	_ = log.Encode(map[string]any{"msg": "ended"})
	return 143
}

// fakeFakeGPU makes GPUs as the command does.
func fakeFakeGPU(words []string) int {
	if len(words) != 5 || words[0] != "create" {
		return fail("fakegpu cannot do that: %q", words)
	}
	flags := map[string]string{}
	for _, word := range words[2:] {
		name, value, _ := strings.Cut(word, "=")
		flags[name] = value
	}
	count, err := strconv.Atoi(flags["--count"])
	if err == nil {
		_, err = fakegpu.Create(words[1], fakegpu.Spec{Profile: flags["--profile"], Count: count, Seed: flags["--seed"]})
	}
	if err != nil {
		return fail("%v", err)
	}
	return 0
}

// fakeSubmit keeps the documents as they are.
func fakeSubmit(flags map[string]string, rest []string) int {
	if len(rest) != 1 || rest[0] != "-" {
		return fail("arguments are %q", rest)
	}
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return fail("%v", err)
	}
	if err := os.WriteFile(filepath.Join(flags["spool"], "documents"), data, 0o644); err != nil {
		return fail("%v", err)
	}
	return 0
}

// fakeStatus lists the documents.
func fakeStatus(flags map[string]string) int {
	data, err := os.ReadFile(filepath.Join(flags["spool"], "documents"))
	if err != nil || flags["output"] != "json" {
		return fail("cannot read spool: %v", err)
	}
	var contents targets.Contents
	for document := range strings.SplitSeq(strings.TrimPrefix(string(data), "---\n"), "---\n") {
		task, err := api.ParseTask([]byte(document))
		if err != nil {
			return fail("%v", err)
		}
		contents = append(contents, api.TaskStatus{ID: task.ID, State: api.TaskWaiting})
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"queue": map[string]any{"tasks": contents}})
	return 0
}
