package pods

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// The nodes with fake GPUs of runner/deploy/fake-gpu carry a label, and have
// the library and the state in these directories.
const (
	fakeLabel   = "studioml.io/fakegpu"
	fakeLibrary = "/var/lib/fakegpu/lib"
	fakeState   = "/var/lib/fakegpu/state"
)

// showFakeDriver does for a pod what NVIDIA's container runtime does where
// there is a driver: it puts the library where the runner finds it.
func showFakeDriver(pod *corev1.Pod) {
	c := &pod.Spec.Containers[0]
	for name, dir := range map[string]string{"fakegpu-lib": fakeLibrary, "fakegpu-state": fakeState} {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: dir, Type: new(corev1.HostPathDirectory)},
		}})
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: dir, ReadOnly: true})
	}
	setEnv(c, "STUDIOML_NVML_LIBRARY", fakeLibrary+"/libnvidia-ml.so.1")
	setEnv(c, fakegpu.EnvState, fakeState)
}
