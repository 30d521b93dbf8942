package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/oracle"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/runner/api"
)

const failedName = "two flips <within> one drain"

// run is one with a failure, in a directory with the evidence of it.
func run(t *testing.T, others int) (*report.Run, string) {
	t.Helper()
	dir := t.TempDir()
	evidence := report.Evidence(dir, "transitions", failedName)
	if err := os.MkdirAll(evidence, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"runner-a.1.log", "timeline.txt"} {
		if err := os.WriteFile(filepath.Join(evidence, name), []byte("text"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := &report.Run{Target: "embedded", Start: time.Unix(1e9, 0), Length: time.Minute, Version: "v1", Around: []string{"Kubernetes v1.37.2"}}
	r.Specs = append(r.Specs, report.Spec{
		Name: failedName, Area: "transitions", Location: "transitions/two-flips.yaml:6", Outcome: report.Failed, Length: 7 * time.Second,
		Labels: []string{"row:13"}, Failure: "two-flips.yaml:32: expect a: phase is Running, want Draining\n  a: Running",
		Evidence: report.Files(dir, "transitions", failedName, time.Time{}), Story: report.TellStory(failing()),
	}, report.Spec{Name: "needs a GPU", Area: "gpu", Outcome: report.Skipped, Failure: "needs gpus: there are none"})
	for i := range others {
		r.Specs = append(r.Specs, report.Spec{Name: fmt.Sprintf("scenario %d", i), Area: "precedence", Outcome: report.Passed,
			Length: time.Second, Labels: []string{"row:16"}, Story: report.TellStory(pair(i))})
	}
	r.Arrange()
	return r, dir
}

// failing is a record in which a step fails.
func failing() []history.Entry {
	status := func(phase api.Phase) *api.Status { return &api.Status{Phase: phase, Version: "v1"} }
	return clocked(
		history.Entry{Map: &history.Map{Name: "studioml-go-runner", Data: map[string]string{"STATE": "Running"}}},
		history.Entry{Runner: "a", Process: 1, Start: true},
		history.Entry{Runner: "a", Process: 1, Status: status(api.PhaseRunning)},
		history.Entry{Step: &history.Step{Line: 32, Text: `{"expect":{"a":{"phase":"Draining"}}}`}},
		history.Entry{Step: &history.Step{Line: 32, Text: `{"expect":{"a":{"phase":"Draining"}}}`, Ended: true, Error: "phase is Running, want Draining"}},
		history.Entry{Runner: "a", Process: 1, Exit: exit(143)},
	)
}

var mapValues = []string{"absent", "keyless", "", "bogus", "Running", "DrainAndTerminate", "DrainAndSuspend"}

// pair is the record of a scenario of row 16, as it should be.
func pair(i int) []history.Entry {
	global, node := mapValues[i/7%7], mapValues[i%7]
	want := oracle.Predict(global, node)
	s := &api.Status{Phase: api.Phase(want.Phase), Effective: api.State(want.Effective), Source: api.Source(want.Source)}
	s.Maps.Global, s.Maps.Node = &api.MapStatus{Name: "g"}, &api.MapStatus{Name: "n"}
	if want.Shadowed != "none" {
		s.Shadowed = &api.Shadowed{Value: api.State(want.Shadowed)}
	}
	var all []history.Entry
	for name, value := range map[string]string{"g": global, "n": node} {
		switch value {
		case "absent":
		case "keyless":
			all = append(all, history.Entry{Map: &history.Map{Name: name}})
		default:
			all = append(all, history.Entry{Map: &history.Map{Name: name, Data: map[string]string{"STATE": value}}})
		}
	}
	return clocked(append(all, history.Entry{Runner: "a", Process: 1, Start: true}, history.Entry{Runner: "a", Process: 1, Status: s})...)
}

// clocked gives the entries times, a quarter of a second apart.
func clocked(entries ...history.Entry) []history.Entry {
	for i := range entries {
		entries[i].Time = time.Unix(1e9, 0).Add(time.Duration(i) * 250 * time.Millisecond)
	}
	return entries
}

// looks is what a person can see of the page at some width, without a click.
type looks struct {
	Name, Deviation, Moment, Link bool // in the first screen, and nothing above them
	Href                          string
	Wide                          int    // of the content
	Drawn                         int    // shapes of the first timeline
	Moved                         string // what the cursor tells at the begin
	Cells                         int
	Found                         int    // specs of row 13, once they are looked for
	Title                         string // of the page
}

// A person who opens the page sees what failed, how, when, and where to look on,
// on a screen and on a phone.
func TestThePageShowsFirstWhatMatters(t *testing.T) {
	browser := chromium(t)
	r, dir := run(t, 49)
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, width := range []int{1280, 390} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			saw := look(t, browser, dir, width)
			if !saw.Name || !saw.Deviation || !saw.Moment || !saw.Link {
				t.Errorf("the first screen does not show all of name, deviation, moment and link: %+v", saw)
			}
			if saw.Wide > width {
				t.Errorf("the page is %d pixels wide", saw.Wide)
			}
			if saw.Drawn < 4 || saw.Moved != "0.000 s" || saw.Cells != 49 {
				t.Errorf("timeline, cursor or matrix are not there: %+v", saw)
			}
			if text, err := os.ReadFile(filepath.Join(dir, saw.Href)); err != nil || string(text) != "text" || !strings.HasSuffix(saw.Href, "timeline.txt") {
				t.Errorf("the link %q leads to %q, %v", saw.Href, text, err)
			}
		})
	}
}

// Whatever texts a run brings, and however little or much happened, the page is a page.
func TestThePageHoldsWhateverItIsTold(t *testing.T) {
	browser := chromium(t)
	r, dir := run(t, 49)
	const hostile = `</script><script>document.title = "taken"</script><img src=x onerror="document.title='taken'">`
	long := strings.Repeat("verylong", 100)
	var much []history.Entry
	for i := range 1000 {
		much = append(much, history.Entry{Runner: hostile, Process: i, Exit: exit(i)}, history.Entry{Map: &history.Map{Name: long, Data: map[string]string{"STATE": hostile}}})
	}
	r.Trouble = []string{hostile}
	r.Specs = append(r.Specs,
		report.Spec{Name: hostile, Area: "z", Outcome: report.Failed, Failure: hostile + "\x1b[31m" + long, Labels: []string{hostile}, Story: report.TellStory(nil)},
		report.Spec{Name: long, Area: "z", Outcome: report.Failed, Failure: long, Length: time.Hour, Story: report.TellStory(clocked(much...))},
		report.Spec{Name: "one moment", Area: "z", Outcome: report.Failed, Story: report.TellStory(clocked(history.Entry{Runner: "a", Start: true}))})
	r.Arrange()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	saw := look(t, browser, dir, 390)
	if saw.Title != "4 of 53 failed on embedded" || saw.Wide > 390 {
		t.Errorf("the page is called %q and %d pixels wide", saw.Title, saw.Wide)
	}
	if !saw.Name || saw.Found != 1 {
		t.Errorf("the page lists %d specs of row 13, want 1: %+v", saw.Found, saw)
	}
}

// What two scenarios leave is apart, however long their names are alike.
func TestLongNamesAreToldApart(t *testing.T) {
	long := strings.Repeat("the runner goes on ", 20)
	one, other := report.FileName("drain", long+"1"), report.FileName("drain", long+"2")
	if one == other || len(one) > 200 {
		t.Errorf("files of two scenarios are called %q and %q", one, other)
	}
}

// probe is a page that shows the report in a frame of some width, and writes down
// what can be seen of it.
const probe = `<!DOCTYPE html><body style="margin:0"><iframe src="report.html" style="border:0;width:%dpx;height:800px"></iframe><pre id="saw"></pre><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, failure = page.querySelector('.failure');
  const seen = (e) => {
    if (!e) return false;
    const r = e.getBoundingClientRect(), top = page.elementFromPoint(r.left + Math.min(20, r.width / 2), r.top + Math.min(10, r.height / 2));
    return r.height > 0 && r.bottom <= 800 && r.right <= %[1]d && (top === e || e.contains(top));
  };
  const has = (selector, text) => { const e = failure.querySelector(selector); return seen(e) && e.textContent.includes(text); };
  const link = failure.querySelector('a'), slider = failure.querySelector('input[type=range]');
  slider.value = 0;
  slider.dispatchEvent(new Event('input'));
  const filter = page.getElementById('filter');
  filter.value = 'row:13';
  filter.dispatchEvent(new Event('input'));
  document.getElementById('saw').textContent = JSON.stringify({
    Name: has('h3', 'two flips <within> one drain'), Deviation: has('.deviation', 'phase is Running, want Draining'), Moment: has('.moment', '1.000 s'), Link: seen(link),
    Href: link.getAttribute('href'), Wide: page.documentElement.scrollWidth, Drawn: failure.querySelectorAll('svg rect').length,
    Moved: failure.querySelector('.now dd').textContent, Cells: page.querySelectorAll("#matrix td").length,
    Found: page.querySelectorAll('.spec:not([hidden])').length, Title: page.title});
};
</script>`

func look(t *testing.T, browser, dir string, width int) (saw looks) {
	t.Helper()
	file := filepath.Join(dir, fmt.Sprintf("probe-%d.html", width))
	if err := os.WriteFile(file, fmt.Appendf(nil, probe, width), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // a busy machine starts it in one
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
		"--user-data-dir="+t.TempDir(), fmt.Sprintf("--window-size=%d,900", max(width, 500)), "--virtual-time-budget=5000", "--dump-dom", "file://"+file)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", browser, err)
	}
	found := regexp.MustCompile(`(?s)<pre id="saw">(.+?)</pre>`).FindSubmatch(out)
	if found == nil {
		t.Fatalf("the probe did not see the page: %.2000s", out)
	}
	text := strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(string(found[1]))
	if err := json.Unmarshal([]byte(text), &saw); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return saw
}

// chromium is found where Debian and others have it.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no Chromium; on Debian: apt-get install chromium")
	return ""
}

// The page asks nobody for anything, and stays small with 300 scenarios.
func TestThePageIsSelfContainedAndSmall(t *testing.T) {
	r, _ := run(t, 300)
	var page bytes.Buffer
	if err := r.HTML(&page); err != nil {
		t.Fatal(err)
	}
	const most = 1 << 20
	if page.Len() > most {
		t.Errorf("the page has %d bytes", page.Len())
	}
	without := strings.ReplaceAll(page.String(), "http://www.w3.org/2000/svg", "")
	for _, outside := range []string{"http://", "https://", "url(", "@import", "src="} {
		if strings.Contains(without, outside) {
			t.Errorf("the page has %q", outside)
		}
	}
	if !strings.Contains(page.String(), "two flips &lt;within&gt; one drain") {
		t.Error("the name is not there, or not escaped")
	}
}

func TestMatrix(t *testing.T) {
	r, _ := run(t, 49)
	wrong := r.Specs[10].Story.Pair
	wrong.Phase = "Suspended or so"
	right, differs := 0, 0
	for _, line := range r.Matrix() {
		for _, c := range line {
			switch {
			case c.Right():
				right++
			case c.Got != nil && c.Got.Phase == "Suspended or so":
				differs++
			}
		}
	}
	if right != 48 || differs != 1 {
		t.Errorf("%d cells are right and %d differ, want 48 and 1", right, differs)
	}
	r.Specs = r.Specs[:5]
	if lines := r.Matrix(); lines[6][6].Got != nil {
		t.Error("a pair that was not played has been seen")
	}
}

func TestMarkdown(t *testing.T) {
	r, _ := run(t, 49)
	r.Specs = append(r.Specs, report.Spec{Name: "<b>red</b> | `it`", Outcome: report.Failed, Failure: "\x1b[31mred\x07"})
	var text bytes.Buffer
	if err := r.Markdown(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# 2 of 51 failed on embedded\n", "* **&lt;b>red&lt;/b> \\| \\`it\\`** ()\n  * \\[31mred\n", "* **two flips &lt;within> one drain** (transitions/two-flips.yaml:6)\n  * phase is Running, want Draining\n  * 1.000 s into it, line 32: expect: {a: {phase: Draining}}\n",
		"(scenarios/transitions-two-flips-within-one-drain/timeline.txt)", "49 of 49 pairs were played, 49 as expected", "| **DrainAndSuspend** | Suspended |", "* needs a GPU: needs gpus: there are none\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the summary lacks %q:\n%s", want, text.String())
		}
	}
}
