package kind

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestNetworkScript(t *testing.T) {
	ranges := map[string]string{"a": "10.244.0.0/24", "b": "10.244.1.0/24", "stopped": "10.244.2.0/24"}
	addresses := map[string]string{"a": "172.18.0.2", "b": "172.18.0.3", "stopped": ""}
	script := networkScript("a", ranges, addresses)
	for _, want := range []string{
		"ip route replace 10.244.1.0/24 via 172.18.0.3\n", `"subnet":"10.244.0.0/24"`,
		"-C POSTROUTING -s 10.244.0.0/24 ! -d 10.244.0.0/16 -j MASQUERADE",
	} {
		if !strings.Contains(script, want) {
			t.Errorf("no %q in\n%s", want, script)
		}
	}
	if strings.Count(script, "ip route") != 1 {
		t.Errorf("routes to itself or to a stopped node in\n%s", script)
	}
}

func TestConflistIsJSON(t *testing.T) {
	var list struct {
		Plugins []struct{ Type string }
	}
	if err := json.Unmarshal([]byte(conflist("10.244.0.0/24")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Plugins) != 2 || list.Plugins[0].Type != "ptp" || list.Plugins[1].Type != "portmap" {
		t.Errorf("got %+v", list)
	}
}

func TestReadable(t *testing.T) {
	err := readable(errors.New("kind: failed\nI1126 10:58:50.559363 214 round_trippers.go:632] \"Response\"\nerror: the cause"))
	if text := err.Error(); !strings.HasPrefix(text, "kind: failed\nerror: the cause") {
		t.Errorf("got %q", text)
	}
}
