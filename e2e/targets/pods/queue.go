package pods

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The Secret of runner/deploy/postgres, for the pods of a namespace.
const (
	queueSecret = "studio-go-runner-queue"
	queueURL    = "url"
)

// createQueue makes the database of the scenario, and says where it is: to pods with
// a Secret.
func (e *env) createQueue(ctx context.Context) error {
	s, name := e.target.config.Server, e.Namespace()
	if s.URL == "" {
		return nil // a look at the image
	}
	if err := s.Create(ctx, name); err != nil {
		return err
	}
	e.Layout.Queue, e.Layout.Password, e.Layout.Spool = "--queue="+s.Of(name), s.Password, s.ForPods(name)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: queueSecret}, StringData: map[string]string{queueURL: e.Layout.Spool}}
	if _, err := e.Admin.CoreV1().Secrets(name).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create the Secret of the queue: %w", err)
	}
	return nil
}

// dropQueue removes it.
func (e *env) dropQueue(ctx context.Context) error {
	if e.Layout.Queue == "" {
		return nil
	}
	return e.target.config.Server.Drop(ctx, e.Namespace())
}

// queueOf lets a pod have the queue from a server, in place of the shipped volume. An
// adapter gets it in another way.
func (e *env) queueOf(pod *corev1.Pod) {
	const shipped = "spool"
	c := &pod.Spec.Containers[0]
	pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == shipped })
	c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == shipped })
	c.Env = slices.DeleteFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == "STUDIOML_SPOOL" })
	if e.target.config.Adapter == nil {
		c.Env = append(c.Env, corev1.EnvVar{Name: "STUDIOML_QUEUE", ValueFrom: &corev1.EnvVarSource{
			SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: queueSecret}, Key: queueURL, Optional: new(e.Layout.Queue == "")},
		}})
	}
}
