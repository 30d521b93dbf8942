package api

// Annotations and labels. The first two are the operators', on the maps (contract,
// R15); the others a runner's, on its own pod.
const (
	AnnotationReason   = "studioml.io/reason"
	AnnotationDeadline = "studioml.io/drain-deadline"

	AnnotationStatus = "studioml.io/status" // the Status, with no more than the oldest task
	LabelPhase       = "studioml.io/phase"
	LabelBusy        = "studioml.io/busy"
)
