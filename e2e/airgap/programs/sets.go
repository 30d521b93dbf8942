package programs

import (
	"fmt"
	"strings"
)

// ControlPlane is what the embedded target consists of. Its nodes' share of
// Kubernetes is a set of its own, so that nobody builds a kubelet for nothing.
var ControlPlane = Set{
	Name:   "controlplane",
	What:   "etcd, kube-apiserver, kubectl",
	Module: "e2e/airgap/controlplane",
	Of:     "k8s.io/kubernetes",
	Packages: map[string]string{
		"etcd":           "go.etcd.io/etcd/server/v3",
		"kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
		"kubectl":        "k8s.io/kubernetes/cmd/kubectl",
	},
	Flags: kubernetesFlags,
	Takes: "about 8 minutes on 2 cores",
}

// Node is the rest of Kubernetes, for clusters with nodes.
var Node = Set{
	Name:   "node",
	What:   "kubelet, kubeadm, kube-proxy, kube-scheduler, kube-controller-manager",
	Module: "e2e/airgap/controlplane",
	Of:     "k8s.io/kubernetes",
	Packages: map[string]string{
		"kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
		"kube-proxy":              "k8s.io/kubernetes/cmd/kube-proxy",
		"kube-scheduler":          "k8s.io/kubernetes/cmd/kube-scheduler",
		"kubeadm":                 "k8s.io/kubernetes/cmd/kubeadm",
		"kubelet":                 "k8s.io/kubernetes/cmd/kubelet",
	},
	Flags: kubernetesFlags,
	Takes: "about 5 minutes on 2 cores",
}

// Containerd runs the containers of a node; the others are the CNI plugins that
// it calls.
var Containerd = Set{
	Name:   "containerd",
	What:   "containerd and CNI plugins",
	Module: "e2e/airgap/containerd",
	Of:     "github.com/containerd/containerd/v2",
	Packages: map[string]string{
		"containerd":              "github.com/containerd/containerd/v2/cmd/containerd",
		"containerd-shim-runc-v2": "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
		"ctr":                     "github.com/containerd/containerd/v2/cmd/ctr",
		"host-local":              "github.com/containernetworking/plugins/plugins/ipam/host-local",
		"ptp":                     "github.com/containernetworking/plugins/plugins/main/ptp",
	},
	Tags: "no_btrfs,no_devmapper,no_zfs", // they need C, and a node has none of them
	Flags: func(version string) string {
		return "-s -w -X github.com/containerd/containerd/v2/version.Version=" + version
	},
	Takes: "about 2 minutes on 2 cores",
}

// CoreDNS is the DNS server of a cluster.
var CoreDNS = Set{
	Name:     "coredns",
	What:     "CoreDNS",
	Module:   "e2e/airgap/coredns",
	Of:       "github.com/coredns/coredns",
	Packages: map[string]string{"coredns": "github.com/coredns/coredns"},
	Flags:    func(string) string { return "-s -w" },
	Takes:    "about 3 minutes on 2 cores",
}

// kubernetesFlags make the programs of Kubernetes report their version; without
// them clients and kubeadm see v0.0.0.
func kubernetesFlags(version string) string {
	const pkg = "k8s.io/component-base/version"
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	return fmt.Sprintf("-s -w -X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s",
		pkg, version, pkg, major, pkg, minor)
}
