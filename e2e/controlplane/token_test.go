package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/util/keyutil"
)

// The API server takes the signature, and finds all as it was but for the times.
func TestResign(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	header := encode([]byte(`{"alg":"ES256","kid":"a"}`))
	end := time.Now().Add(-time.Minute)
	text, err := resign(header+"."+encode([]byte(`{"sub":"me","exp":9007199254740993,"big":9007199254740993}`))+".AAAA", pem, end)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 || parts[0] != header {
		t.Fatalf("the token is %s", text)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(&key.PublicKey, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Error("the signature is not the key's")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Sub           string
		Exp, Iat, Big int64
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Sub != "me" || claims.Exp != end.Unix() || claims.Iat >= claims.Exp || claims.Big != 9007199254740993 {
		t.Errorf("the claims are %s", payload)
	}
	for _, bad := range []string{"", "a.b", "a.!.c", "a." + encode([]byte("{")) + ".c"} {
		if _, err := resign(bad, pem, end); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}
