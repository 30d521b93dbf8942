package kube

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Condition says in a few words how a pod is, for an error.
func Condition(pod *corev1.Pod) string {
	if pod == nil {
		return "there is no such pod"
	}
	text := "it is " + string(pod.Status.Phase)
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status != corev1.ConditionTrue {
			text += ", not scheduled: " + c.Message
		}
	}
	for _, s := range Statuses(pod) {
		if waiting := s.State.Waiting; waiting != nil {
			text += fmt.Sprintf(", container %s waits: %s %s", s.Name, waiting.Reason, waiting.Message)
		}
	}
	return text
}

// Statuses are those of all containers, of sidecars too.
func Statuses(pod *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
}
