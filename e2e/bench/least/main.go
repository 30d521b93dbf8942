// Command least links what a runner cannot do without, and does nothing with it: NVML,
// a command line, metrics, a client of the API server that follows one map. It is the
// peer of the runner's size.
package main

import (
	"context"
	"net/http"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	var flags struct{ Kubeconfig string }
	parsed := kong.Parse(&flags)
	parsed.FatalIfErrorf(run(flags.Kubeconfig))
}

func run(kubeconfig string) error {
	if code := nvml.Init(); code != nvml.SUCCESS {
		return code
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return err
	}
	config.APIPath, config.GroupVersion = "/api", &corev1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return err
	}
	maps := cache.NewListWatchFromClient(client, "configmaps", "default", fields.Everything())
	store := cache.NewStore(cache.MetaNamespaceKeyFunc)
	go cache.NewReflector(maps, &corev1.ConfigMap{}, store, 0).RunWithContext(context.Background())
	return http.ListenAndServe("127.0.0.1:0", promhttp.Handler())
}
