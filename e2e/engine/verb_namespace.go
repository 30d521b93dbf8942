package engine

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "namespace", Doc: "Begins to delete the runners' namespace, as kubectl delete namespace does; what is in it, other steps delete."}, namespace.do)
}

type namespace string

func (namespace) Words() []string { return []string{"delete"} }

func (namespace) do(p *play) error {
	return p.bounded(clusterBudget, func(ctx context.Context) error {
		return p.env.Client().Resources().Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.env.Namespace()}})
	})
}
