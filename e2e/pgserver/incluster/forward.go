package incluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"

	"github.com/studioml/studio-go-runner/e2e/kube"
)

// forward has connections to an address of this machine end at a port of a pod, until
// stop is called. After an outage of the API server it goes on.
func (c Config) forward(ctx context.Context, namespace, pod string, port int) (address string, stop func(), err error) {
	url := c.Admin.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
	sockets, err := portforward.NewSPDYOverWebsocketDialer(url, c.Config)
	if err != nil {
		return "", nil, err
	}
	transport, upgrader, err := spdy.RoundTripperFor(c.Config)
	if err != nil {
		return "", nil, err
	}
	dialer := portforward.NewFallbackDialer(sockets, spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url), kube.UpgradeFailed)

	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var forwarding sync.WaitGroup
	stop = func() { cancel(); forwarding.Wait() }
	begin := func(local uint16, ready chan struct{}) (*portforward.PortForwarder, error) {
		return portforward.NewOnAddressesWithContext(life, dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("%d:%d", local, port)}, ready, io.Discard, io.Discard)
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	first, err := begin(0, ready)
	if err != nil {
		return "", nil, err
	}
	forwarding.Go(func() { ended <- first.ForwardPorts() })
	select {
	case <-ready:
	case err := <-ended:
		stop()
		return "", nil, fmt.Errorf("reach port %d of pod %s: %w", port, pod, err)
	}
	ports, err := first.GetPorts()
	if err != nil {
		stop()
		return "", nil, err
	}
	forwarding.Go(func() {
		<-ended
		_ = wait.PollUntilContextCancel(life, 200*time.Millisecond, true, func(context.Context) (bool, error) {
			again, err := begin(ports[0].Local, make(chan struct{}))
			if err == nil {
				_ = again.ForwardPorts() // until the next outage
			}
			return false, nil
		})
	})
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local), stop, nil
}
