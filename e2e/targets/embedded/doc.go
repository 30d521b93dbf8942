// Package embedded is the target that needs no cluster: a real etcd and a real
// kube-apiserver on the loopback interface, and runners that are processes.
//
// The API server is complete as far as the runner can tell: role-based access
// control, admission policies, watches, Events. There is no controller-manager,
// no kubelet and no node, so there are no pods and no workloads, and namespaces
// stay as long as the control plane.
//
// One control plane is shared by all scenarios, each in its own namespace. A
// scenario that stops the API server gets a control plane of its own.
//
// No process outlives the tests: a runner, etcd and the API server are killed
// by the kernel when the process that started them dies, however it dies.
package embedded
