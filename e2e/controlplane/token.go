package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// Token is that of a service account, in a file that its users read again, as in a pod.
// Each one is bound to a Secret of its own, as that of a pod is to the pod: the API server
// takes it no longer when the Secret is gone.
type Token struct {
	Admin   kubernetes.Interface
	Account *corev1.ServiceAccount
	Key     []byte // see Handle.SigningKey
	Path    string

	secret *corev1.Secret // of the present token
	text   string
}

// SetToken does what a token step says, and waits until the API server does not take the
// token of before. A token ends with its Secret, if not before.
func (t *Token) SetToken(ctx context.Context, what scenario.Token) (err error) {
	before, secret := t.text, t.secret
	switch what {
	case scenario.TokenRotate:
		err = t.Renew(ctx)
	case scenario.TokenExpire:
		err = t.write(time.Now().Add(-2 * time.Minute)) // the API server gives clocks that differ a minute
	}
	if err == nil {
		err = t.Admin.CoreV1().Secrets(secret.Namespace).Delete(ctx, secret.Name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			err = nil // by another step before this
		}
	}
	if err == nil {
		// For 10 seconds the API server takes what it took before.
		err = kube.Poll(ctx, "the API server refuses the token of before", func() error {
			review := &authnv1.TokenReview{Spec: authnv1.TokenReviewSpec{Token: before}}
			review, err := t.Admin.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
			if err == nil && review.Status.Authenticated {
				err = errors.New("it takes it still")
			}
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("token %s: %w", what, err)
	}
	return nil
}

// Renew puts a new token into the file, for longer than any test run.
func (t *Token) Renew(ctx context.Context) (err error) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-token-"}}
	if t.secret, err = t.Admin.CoreV1().Secrets(t.Account.Namespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make secret for a token: %w", err)
	}
	return t.write(time.Now().Add(24 * time.Hour))
}

// write puts a token that ends at that time into the file. It is signed here as the API
// server signs one: nobody gets that to issue one for less than ten minutes.
func (t *Token) write(end time.Time) error {
	key, err := jwt.ParseECPrivateKeyFromPEM(t.Key)
	if err != nil {
		return fmt.Errorf("read signing key: %w", err)
	}
	reference := func(o metav1.Object) any { return map[string]any{"name": o.GetName(), "uid": o.GetUID()} }
	t.text, err = jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": issuer, "aud": []string{issuer}, "exp": end.Unix(),
		"sub": "system:serviceaccount:" + t.Account.Namespace + ":" + t.Account.Name,
		"kubernetes.io": map[string]any{
			"namespace": t.Account.Namespace, "serviceaccount": reference(t.Account), "secret": reference(t.secret),
		},
	}).SignedString(key)
	if err != nil {
		return fmt.Errorf("sign token: %w", err)
	}
	// At once, so that nobody reads a part of it.
	if err := os.WriteFile(t.Path+".new", []byte(t.text), 0o600); err != nil {
		return err
	}
	return os.Rename(t.Path+".new", t.Path)
}
