package controlplane

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// Token is that of a service account, in a file that its users read again, as in a pod.
// Each one is bound to a Secret of its own, as that of a pod is to the pod: the API server
// takes it no longer when the Secret is gone.
type Token struct {
	Admin   kubernetes.Interface
	Account types.NamespacedName
	Key     []byte // see Handle.SigningKey
	Path    string

	secret *corev1.Secret // of the present token
	text   string
}

// SetToken does what a token step says, and waits until the API server takes no token
// but the present one, or none at all. A token ends with its Secret, if not before.
func (t *Token) SetToken(ctx context.Context, what scenario.Token) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("token %s: %w", what, err)
		}
	}()
	before, secret := t.text, t.secret
	switch what {
	case scenario.TokenRotate:
		err = t.Renew(ctx)
	case scenario.TokenExpire:
		err = t.expire()
	}
	if err != nil {
		return err
	}
	err = t.Admin.CoreV1().Secrets(secret.Namespace).Delete(ctx, secret.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) { // by another step before this
		return err
	}
	if err := t.awaitRefusal(ctx, before, ""); err != nil || what != scenario.TokenExpire {
		return err
	}
	return t.awaitRefusal(ctx, t.text, "expired")
}

// Renew puts a new token into the file.
func (t *Token) Renew(ctx context.Context) (err error) {
	t.secret, err = t.Admin.CoreV1().Secrets(t.Account.Namespace).Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-token-"}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("make secret for a token: %w", err)
	}
	request := &authnv1.TokenRequest{Spec: authnv1.TokenRequestSpec{
		ExpirationSeconds: new(int64(24 * 60 * 60)), // longer than any test run
		BoundObjectRef:    &authnv1.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: t.secret.Name, UID: t.secret.UID},
	}}
	request, err = t.Admin.CoreV1().ServiceAccounts(t.Account.Namespace).CreateToken(ctx, t.Account.Name, request, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("get token of service account %s: %w", t.Account, err)
	}
	return t.write(request.Status.Token)
}

// expire puts the present token into the file as it would be if its time were
// over, with the API server's own signature.
func (t *Token) expire() error {
	// The API server gives clocks that differ a minute. Nobody gets it to issue a
	// token for less than ten.
	over := time.Now().Add(-2 * time.Minute)
	text, err := resign(t.text, t.Key, over)
	if err != nil {
		return err
	}
	return t.write(text)
}

// write replaces the file at once, so that nobody reads a part of it.
func (t *Token) write(text string) error {
	t.text = text
	if err := os.WriteFile(t.Path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(t.Path+".new", t.Path)
}

// awaitRefusal waits until the API server does not take a token, for a reason
// with that word. For 10 seconds it takes what it took before.
func (t *Token) awaitRefusal(ctx context.Context, text, reason string) error {
	err := kube.Poll(ctx, func() error {
		review := &authnv1.TokenReview{Spec: authnv1.TokenReviewSpec{Token: text}}
		review, err := t.Admin.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
		if err == nil && (review.Status.Authenticated || !strings.Contains(review.Status.Error, reason)) {
			err = fmt.Errorf("authenticated is %t, %s", review.Status.Authenticated, review.Status.Error)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait until the API server refuses the token: %w", err)
	}
	return nil
}

// resign returns a JSON web token that was valid for an hour and ended at that time.
func resign(text string, key []byte, end time.Time) (string, error) {
	private, err := jwt.ParseECPrivateKeyFromPEM(key)
	if err != nil {
		return "", fmt.Errorf("read signing key: %w", err)
	}
	claims := jwt.MapClaims{}
	token, _, err := jwt.NewParser(jwt.WithJSONNumber()).ParseUnverified(text, claims)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	begin := end.Add(-time.Hour).Unix()
	claims["exp"], claims["iat"], claims["nbf"] = end.Unix(), begin, begin
	return token.SignedString(private)
}
