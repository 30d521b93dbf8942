package embedded

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/program"
)

// What a runner says that is no status leaves a gap, which is told once.
func TestBadStatuses(t *testing.T) {
	for said, want := range map[string]string{
		"{\"sequence\": 1}\n{\"sequence\": 2, \"phase\": 5}\n":       "cannot unmarshal number",
		"{\"sequence\": 1}\n{\"sequence\": 2, \"time\": \"noon\"}\n": "cannot parse",
		"{\"sequence\": 1}\n]\n":                                     "invalid character",
		"{\"sequence\": 1}\n{\"sequence\"":                           "",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, said) }))
		started, err := program.Start(exec.Command("sleep", "0.3"))
		if err != nil {
			t.Fatal(err)
		}
		record := history.New()
		p := &process{Program: started, name: "a", address: strings.TrimPrefix(server.URL, "http://"), tells: history.Process{Record: record, Runner: "a", Number: 1}}
		p.readStatuses()
		server.Close()
		troubles := history.Sum(record.Entries()).Troubles
		if want == "" && len(troubles) > 0 || want != "" && (len(troubles) != 1 || !strings.Contains(troubles[0], want)) {
			t.Errorf("%s: told %q, want %q once", said, troubles, want)
		}
	}
}
