package pgserver_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
)

// A standby that was away while much was written, and the server started again, follows
// afterwards; else every commit would wait for it.
func TestStandbyThatWasBehind(t *testing.T) {
	p, err := pgserver.StartPair(os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Standby.Kill(); err != nil {
		t.Fatal(err)
	}
	const write = "set synchronous_commit = local; create table if not exists n (n int); insert into n values (1)"
	for range 4 {
		for _, say := range []string{write, "select pg_switch_wal()", "checkpoint"} {
			if err := p.Primary.Exec(t.Context(), "postgres", say); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, do := range []func() error{p.Primary.Kill, p.Primary.Start, p.Standby.Start} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.Primary.Exec(ctx, "postgres", "insert into n values (2)"); err != nil {
		t.Errorf("a commit waits for the standby: %v", err)
	}
}
