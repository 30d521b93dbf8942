package capture_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/fakegpu/capture"
)

// differs are the questions that a real H100, or H200, alone in a virtual machine
// answers otherwise than the fake that is made of its capture, and why. The README
// has the same list.
var differs = map[string]string{
	"GetConfComputeGpuCertificate":                 "it has a certificate, and fails",
	"SystemGetConfComputeKeyRotationThresholdInfo": "it could be confidential",
	"GetCurrentClockFreqs":                         "a text for people",
	"GetPerformanceModes":                          "a text for people",
	"GetPowerMizerMode_v1":                         "modes of desktops",
	"GetGridLicensableFeatures":                    "licences of virtual GPUs",
	"GetVirtualizationMode":                        "it is in a virtual machine",
	"SystemGetDriverBranch":                        "a name that its version does not tell",
	"GetClock(0,0)":                                "it changes all the time",
	"GetClock(1,0)":                                "it changes all the time",
	"GetClockInfo(0)":                              "it changes all the time",
	"GetClockInfo(1)":                              "it changes all the time",
	"GetThermalSettings(0)":                        "it changes all the time",
	"GetThermalSettings(15)":                       "it changes all the time",
	"GetPowerUsage":                                "it changes all the time",
	"GetPcieThroughput":                            "who reads the card is seen",
	"GetTotalEnergyConsumption":                    "it has been on for a while",
	"GetViolationStatus(4)":                        "for how long nothing has used it",
	"GetViolationStatus(10)":                       "for how long its clocks were low",
	"GetViolationStatus(11)":                       "for how long its clocks were low",
	"GetProcessesUtilizationInfo":                  "it has samples of nobody",
	"GetGpuInstanceProfileInfo(17)":                "newer than its driver",
	"GetGpuInstanceProfileInfoV(17)":               "newer than its driver",
	"GetFieldValues(147)":                          "a type that means nothing without NVLinks",
}

// fields of GetFieldValues that differ, for the same reasons.
var fields = map[string][]int{
	"for how long nothing has used it, or its clocks were low": {78, 80, 81},
	"it has been on for a while":                               {83, 191},
	"it changes all the time":                                  {185, 186},
	"counters of its link":                                     {169, 175, 176, 177, 178, 183, 197, 198},
	"newer than its driver":                                    {274, 289, 290, 291, 292, 293, 296, 297, 298, 299, 300, 301, 302, 303, 304, 305, 306, 307},
}

func init() {
	for why, ids := range fields {
		for _, id := range ids {
			differs[fmt.Sprintf("GetFieldValues(%d)", id)] = why
		}
	}
}

// TestTheFakeOfARealCardAnswersAsIt compares all that NVML answers of real cards
// (testdata) with what it answers of the fakes that are made of their captures.
func TestTheFakeOfARealCardAnswersAsIt(t *testing.T) {
	used := make(map[string]bool)
	for _, card := range []string{"h100", "h200"} {
		recorded, err := os.ReadFile(filepath.Join("testdata", card+".txt"))
		check(t, err)
		create(t, filepath.Join("testdata", card+".yaml"), 1)
		lines, err := capture.Answers(open(), "0")
		check(t, err)
		fake := single(lines)
		real := single(strings.Split(strings.TrimSpace(string(recorded)), "\n"))
		for _, question := range slices.Sorted(maps.Keys(real)) {
			name, _, _ := strings.Cut(question, "(")
			switch got, ok := fake[question]; {
			case ok && got == real[question]:
			case differs[question] != "":
				used[question] = true
			case differs[name] != "":
				used[name] = true
			default:
				t.Errorf("%s, %s:\n the card %.300s\n the fake %.300s", card, question, real[question], got)
			}
		}
		if len(real) < 1500 {
			t.Errorf("the %s has %d answers, want all", card, len(real))
		}
	}
	for question := range differs {
		if !used[question] {
			t.Errorf("%s is said to differ, and does not", question)
		}
	}
}

// misplaced is the name of a kind of instance in its third version: the driver
// writes that of another one, and to a wrong place.
var misplaced = regexp.MustCompile(`(V3 .*"Name":)[^]]*`)

// single gives the answer of each question by itself.
func single(lines []string) map[string]string {
	all := make(map[string]string)
	for _, line := range lines {
		question, answer, _ := strings.Cut(line, " = ")
		answer = misplaced.ReplaceAllString(answer, "$1")
		name, arguments, ok := strings.Cut(strings.TrimSuffix(question, ")"), "(")
		if !ok {
			all[name] = answer
			continue
		}
		for one := range strings.SplitSeq(arguments, " ") {
			all[name+"("+one+")"] = answer
		}
	}
	return all
}
