package kube_test

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/studioml/studio-go-runner/runner/internal/kube"
)

func TestFindCluster(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	err := os.WriteFile(config, []byte(`
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u, namespace: from-file}}, {name: there, context: {cluster: c, user: u, namespace: yonder}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	empty, contextless := filepath.Join(dir, "empty"), filepath.Join(dir, "contextless")
	if err := errors.Join(os.WriteFile(empty, nil, 0o600), os.WriteFile(contextless,
		[]byte(`{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		flag, context, namespace string
		env                      map[string]string
		home                     string // the file in the home, if there is one
		want                     string // the namespace, empty for no cluster
		problem, doubt           string
	}{
		"a laptop":                        {},
		"the home's file":                 {home: config, want: "from-file"},
		"an empty file in the home":       {home: empty, doubt: "names no cluster"},
		"a home that cannot be read":      {home: dir, problem: "is a directory"},
		"the flag":                        {flag: config, want: "from-file"},
		"a context":                       {flag: config, context: "there", want: "yonder"},
		"a context of KUBECONFIG":         {env: map[string]string{"KUBECONFIG": config}, context: "there", want: "yonder"},
		"a context of the home's file":    {home: config, context: "there", want: "yonder"},
		"a context that nobody knows":     {flag: config, context: "ther", problem: "see --kubeconfig and --context"},
		"a context of no file":            {context: "there", problem: "see --kubeconfig and --context"},
		"a context of no file, in a pod":  {context: "there", env: map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, problem: "see --kubeconfig and --context"},
		"KUBECONFIG":                      {env: map[string]string{"KUBECONFIG": config}, want: "from-file"},
		"one of several":                  {env: map[string]string{"KUBECONFIG": dir + "/no:" + config}, want: "from-file"},
		"a namespace":                     {flag: config, namespace: "mine", want: "mine"},
		"a namespace that cannot be":      {flag: config, namespace: "My_Own", problem: `namespace is "My_Own"`},
		"a flag that names nothing":       {flag: dir + "/no", problem: "/no"},
		"a flag that names an empty file": {flag: empty, problem: "names no cluster"},
		"KUBECONFIG without a context":    {env: map[string]string{"KUBECONFIG": contextless}, problem: "has no current-context"},
		"the same in a pod with a token":  {flag: empty, env: map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, problem: "names no cluster"},
		"several of which one says it":    {env: map[string]string{"KUBECONFIG": empty + ":" + config}, want: "from-file"},
		"KUBECONFIG names nothing":        {env: map[string]string{"KUBECONFIG": dir + "/no"}, problem: "unset it to run without a cluster"},
		"a pod without a token":           {env: map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, problem: "automountServiceAccountToken"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"} {
				t.Setenv(variable, test.env[variable])
			}
			defer func(file string) { clientcmd.RecommendedHomeFile = file }(clientcmd.RecommendedHomeFile)
			clientcmd.RecommendedHomeFile = cmp.Or(test.home, dir+"/no")
			client, namespace, doubt, err := kube.FindCluster(test.flag, test.context, test.namespace)
			if !strings.Contains(doubt, test.doubt) || test.doubt == "" && doubt != "" {
				t.Errorf("doubt %q, want %q", doubt, test.doubt)
			}
			switch {
			case test.problem != "":
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("error %v, want one with %q", err, test.problem)
				}
			case err != nil:
				t.Error(err)
			case (client != nil) != (test.want != "") || namespace != test.want:
				t.Errorf("client %v of namespace %q, want the namespace %q", client, namespace, test.want)
			}
		})
	}
}
