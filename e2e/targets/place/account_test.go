package place_test

import (
	"testing"

	authzv1 "k8s.io/api/authorization/v1"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

func TestPermissions(t *testing.T) {
	maps := func(verb, name string) authzv1.ResourceAttributes {
		return authzv1.ResourceAttributes{Verb: verb, Resource: "configmaps", Name: name}
	}
	event := authzv1.ResourceAttributes{Verb: "create", Resource: "events", Group: "events.k8s.io"}
	for _, test := range []struct {
		permissions scenario.Permissions
		question    authzv1.ResourceAttributes
		want        bool
	}{
		{scenario.PermissionsShipped, maps("list", ""), true},
		{scenario.PermissionsShipped, maps("get", "any"), true},
		{scenario.PermissionsShipped, maps("update", "studioml-go-runner"), false},
		{scenario.PermissionsShipped, maps("delete", "studioml-go-runner"), false},
		{scenario.PermissionsShipped, event, true},
		{scenario.PermissionsShipped, authzv1.ResourceAttributes{Verb: "get", Resource: "secrets", Name: "x"}, false},
		{scenario.PermissionsNamed, maps("list", ""), false},
		{scenario.PermissionsNamed, maps("watch", "studioml-go-runner"), true},
		{scenario.PermissionsNamed, maps("watch", "node-7"), true},
		{scenario.PermissionsNamed, maps("get", "studio-go-runner-0"), false}, // an example of the file
		{scenario.PermissionsNamed, event, true},
		{scenario.PermissionsGlobalOnly, maps("get", "studioml-go-runner"), true},
		{scenario.PermissionsGlobalOnly, maps("get", "node-7"), false},
		{scenario.PermissionsNone, maps("get", "studioml-go-runner"), false},
		{scenario.PermissionsNone, event, false},
	} {
		got, err := place.Allows(t.Context(), test.permissions, []string{"node-7"}, test.question)
		if err != nil {
			t.Fatal(err)
		}
		if got != test.want {
			t.Errorf("%s allows %+v: got %t, want %t", test.permissions, test.question, got, test.want)
		}
	}
}
