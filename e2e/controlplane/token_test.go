package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/util/keyutil"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// What is in the file is signed with the key, for the account and a Secret that is there,
// unless it was revoked; and what was before is refused when a step has ended.
func TestToken(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	var refused []string
	admin := fake.NewClientset()
	secrets := 0
	admin.PrependReactor("create", "secrets", func(a clienttesting.Action) (bool, runtime.Object, error) {
		secrets++
		a.(clienttesting.CreateAction).GetObject().(*corev1.Secret).Name = []string{"first", "second"}[secrets-1] // as servers do it
		return false, nil, nil
	})
	admin.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authnv1.TokenReview)
		refused = append(refused, review.Spec.Token)
		review.Status.Authenticated = len(refused)%2 > 0
		return true, review, nil
	})
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "here", Name: "me", UID: "7"}}
	token := Token{Admin: admin, Account: account, Key: pem, Path: filepath.Join(t.TempDir(), "token")}
	if err := token.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	holds := func(secret string, valid bool) (text string) {
		t.Helper()
		file, err := os.ReadFile(token.Path)
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			jwt.RegisteredClaims
			Kubernetes struct {
				Namespace              string
				ServiceAccount, Secret struct{ Name, UID string }
			} `json:"kubernetes.io"`
		}
		// The API server gives a minute.
		_, err = jwt.ParseWithClaims(string(file), &claims, func(*jwt.Token) (any, error) { return &key.PublicKey, nil }, jwt.WithLeeway(time.Minute))
		if (err == nil) != valid {
			t.Errorf("valid is %t, %v", err == nil, err)
		}
		is := claims.Kubernetes
		if claims.Subject != "system:serviceaccount:here:me" || is.Namespace != "here" || is.ServiceAccount.UID != "7" || is.Secret.Name != secret {
			t.Errorf("the token has %+v", claims)
		}
		return string(file)
	}
	before := holds("first", true)
	if err := token.SetToken(t.Context(), scenario.TokenRotate); err != nil {
		t.Fatal(err)
	}
	if len(refused) != 2 || refused[1] != before { // asked until it is refused
		t.Errorf("refused are %q", refused)
	}
	before = holds("second", true)
	if err := token.SetToken(t.Context(), scenario.TokenExpire); err != nil {
		t.Fatal(err)
	}
	if len(refused) != 4 || refused[3] != before {
		t.Errorf("refused are %q", refused)
	}
	holds("second", false)
	if err := token.SetToken(t.Context(), scenario.TokenRevoke); err != nil { // the Secret is gone already
		t.Fatal(err)
	}
	if left, err := admin.CoreV1().Secrets("here").List(t.Context(), metav1.ListOptions{}); err != nil || len(left.Items) > 0 {
		t.Errorf("%d Secrets are left, %v", len(left.Items), err)
	}
}
