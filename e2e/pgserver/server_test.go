package pgserver_test

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
)

// What was committed is there after each kind of end, and nothing of the server is
// left after Close.
func TestServer(t *testing.T) {
	s, err := pgserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	url, err := s.Database(ctx, "a-b")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Exec(ctx, "a-b", "create table n (n int)"); err != nil {
		t.Fatal(err)
	}
	for i, end := range []func() error{s.Kill, s.Stop} {
		if err := s.Exec(ctx, "a-b", "insert into n values (1)"); err != nil {
			t.Fatal(err)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if conn, err := pgx.Connect(ctx, url); err == nil {
			conn.Close(ctx)
			t.Error("the server answers after its end")
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		var rows int
		err := s.Query(ctx, "a-b", "select count(*) from n", &rows)
		if err != nil || rows != i+1 {
			t.Errorf("after end %d there are %d rows (%v), want %d", i, rows, err, i+1)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
		t.Errorf("the directory is there after Close: %v", err)
	}
}
