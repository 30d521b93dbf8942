// Package kube is what the tests do to any cluster: they connect to it with all
// rights, use the shipped manifests, ask what they may do, and remove what runs of them
// have made.
package kube

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
	"sigs.k8s.io/e2e-framework/klient"
	"sigs.k8s.io/e2e-framework/klient/k8s/resources"
)

// Access is how the tests use an API server, with all rights.
type Access struct {
	Config *rest.Config
	Admin  kubernetes.Interface

	objects *resources.Resources // shared: each one asks the API server for all it serves
}

// Connect makes the clients for a configuration.
func Connect(config *rest.Config) (a Access, err error) {
	// The server limits by itself what it takes; the clients' limit, of 5 requests a
	// second, would only make the tests slow.
	config.QPS = -1
	a.Config = config
	typed := rest.CopyConfig(config)
	typed.ContentType = runtime.ContentTypeProtobuf // a third of the work, here and there
	typed.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if a.Admin, err = kubernetes.NewForConfig(typed); err != nil {
		return a, err
	}
	all, err := klient.New(rest.CopyConfig(config)) // its package has what servers warn of logged
	if err == nil {
		a.objects = all.Resources()
	}
	return a, err
}

// Objects are those of a namespace, or of the cluster. Each caller has its own: that of
// e2e-framework has one namespace for all, which is the last that anybody named.
func (a Access) Objects(namespace string) *resources.Resources {
	own := *a.objects
	return own.WithNamespace(namespace)
}

// Poll asks until the answer is nil, for what the API server cannot be watched for.
// The error says what was waited for, and the last answer that was not about the end of ctx.
func Poll(ctx context.Context, until string, ask func() error) error {
	const interval = 20 * time.Millisecond
	var last error
	err := wait.PollUntilContextCancel(ctx, interval, true, func(ctx context.Context) (bool, error) {
		err := ask()
		if ctx.Err() == nil || last == nil {
			last = err
		}
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait until %s: %w: %w", until, context.Cause(ctx), last)
	}
	return nil
}

// UpgradeFailed says whether the other protocol for streams is worth a try.
func UpgradeFailed(err error) bool {
	return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
}
