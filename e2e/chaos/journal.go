package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// journal follows the tasks' notes while they are written, so that faults strike
// when they should. The checker reads the file itself, at the end.
type journal struct {
	watch *fsnotify.Watcher
	file  *os.File
	lines *bufio.Reader
	half  string
	ended chan struct{}

	mu      sync.Mutex
	running map[string]map[string]Instant // since when, by kind and task
	started map[string]bool
	news    chan struct{} // closed and replaced with each note
}

func openJournal(path string) (*journal, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	j := &journal{
		watch: watch, file: file, lines: bufio.NewReader(file), ended: make(chan struct{}),
		running: map[string]map[string]Instant{}, started: map[string]bool{}, news: make(chan struct{}),
	}
	if err := watch.Add(path); err != nil {
		return nil, errors.Join(err, j.watch.Close(), file.Close())
	}
	go j.follow()
	return j, nil
}

func (j *journal) follow() {
	defer close(j.ended)
	for range j.watch.Events {
		for {
			text, err := j.lines.ReadString('\n')
			j.half += text
			if err != nil {
				break
			}
			if n, err := parseNote(strings.TrimSpace(j.half)); err == nil {
				j.take(n)
			}
			j.half = ""
		}
	}
}

func (j *journal) take(n Note) {
	j.mu.Lock()
	defer j.mu.Unlock()
	kind, _, _ := strings.Cut(n.Task, "-")
	if j.running[kind] == nil {
		j.running[kind] = map[string]Instant{}
	}
	if n.What == "start" {
		j.started[n.Task], j.running[kind][n.Task] = true, n.At
	} else if n.What == "end" {
		delete(j.running[kind], n.Task)
	}
	close(j.news)
	j.news = make(chan struct{})
}

// runs says whether a task of that kind seems to run. One that was killed, which
// leaves no note, does so for as long as it would have taken; mu is held.
func (j *journal) runs(kind taskKind) bool {
	for _, since := range j.running[kind.name] {
		if since.Plus(kind.to) > now() {
			return true
		}
	}
	return false
}

// await waits until something holds, and says whether it does.
func (j *journal) await(ctx context.Context, holds func(j *journal) bool) bool {
	for {
		j.mu.Lock()
		held, news := holds(j), j.news
		j.mu.Unlock()
		if held {
			return true
		}
		select {
		case <-news:
		case <-ctx.Done():
			return false
		}
	}
}

func (j *journal) close() error {
	err := j.watch.Close()
	<-j.ended
	return errors.Join(err, j.file.Close())
}
