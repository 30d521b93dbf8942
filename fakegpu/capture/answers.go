package capture

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Answers asks a GPU, and its driver, all that NVML can be asked without
// changing anything, and returns a line for each question and answer: what a
// real card and the fake one that is made of its profile are compared by. Samples
// are left out: they are a history, and a fake has only the present.
func Answers(lib nvml.Interface, gpu string) ([]string, error) {
	if r := lib.Init(); r != nvml.SUCCESS {
		return nil, fmt.Errorf("start NVML: %s; is there a driver, or a FAKEGPU_STATE with GPUs?", nvml.ErrorString(r))
	}
	defer lib.Shutdown()
	device, err := find(lib, gpu)
	if err != nil {
		return nil, err
	}
	lines := fieldAnswers(device)
	has := func(function string) bool { return lib.Extensions().LookupSymbol(function) == nil }
	for _, from := range []struct {
		of     reflect.Value
		prefix string
		asks   *regexp.Regexp
	}{
		{reflect.ValueOf(device), "nvmlDevice", regexp.MustCompile(`^(Get|Is|Validate)`)},
		{reflect.ValueOf(device), "nvml", regexp.MustCompile(`^GpmQuery`)},
		{reflect.ValueOf(lib), "nvml", regexp.MustCompile(`^System(Get|EventSet$)`)},
	} {
		for i := range from.of.NumMethod() {
			name := from.of.Type().Method(i).Name
			if from.asks.MatchString(name) && name != "GetFieldValues" && name != "GetSamples" {
				lines = append(lines, ask(name, from.of.Method(i), has(from.prefix+name))...)
			}
		}
	}
	slices.Sort(lines)
	return lines, nil
}

func fieldAnswers(device nvml.Device) []string {
	var lines []string
	for id := range uint32(nvml.FI_MAX) {
		field := []nvml.FieldValue{{FieldId: id}}
		if r := device.GetFieldValues(field); r != nvml.SUCCESS {
			lines = append(lines, fmt.Sprintf("GetFieldValues(%d) = %d", id, r))
		} else if r := nvml.Return(field[0].NvmlReturn); r != nvml.SUCCESS {
			lines = append(lines, fmt.Sprintf("GetFieldValues(%d) = ret %d", id, r))
		} else {
			lines = append(lines, fmt.Sprintf("GetFieldValues(%d) = ret 0 type %d value %x", id, field[0].ValueType, field[0].Value))
		}
	}
	return lines
}

// ask calls a method with all arguments that it could have, and tells of those
// with the same answer in one line. A function that the library lacks would end
// the process.
func ask(name string, method reflect.Value, there bool) []string {
	if !there {
		return []string{name + " = not in this library"}
	}
	var answers []string
	with := make(map[string][]string)
	for _, in := range arguments(method.Type()) {
		answer := call(method, in)
		if with[answer] == nil {
			answers = append(answers, answer)
		}
		with[answer] = append(with[answer], words(in, ","))
	}
	for i, answer := range answers {
		answers[i] = fmt.Sprintf("%s(%s) = %s", name, strings.Join(with[answer], " "), answer)
	}
	return answers
}

// linkInfo has a first version that go-nvml (v0.13.4-1) takes for the second, which is
// larger: the race detector ends the process.
var linkInfo = reflect.TypeFor[nvml.NvLinkInfoHandler]()

func call(method reflect.Value, in []reflect.Value) (answer string) {
	defer func() {
		if p := recover(); p != nil {
			answer = fmt.Sprint("panic ", p) // of go-nvml, with an empty list
		}
	}()
	out := method.Call(in)
	if r, ok := out[len(out)-1].Interface().(nvml.Return); ok && r != nvml.SUCCESS {
		return fmt.Sprintf("ret %d", r) // what is given beside it means nothing
	}
	if v := out[0]; v.Kind() == reflect.Struct && v.NumMethod() > 0 { // one answer for each version
		var answers []string
		for i := range v.NumMethod() {
			if version := v.Type().Method(i).Name; v.Type() != linkInfo || version != "V1" {
				answers = append(answers, version+" "+call(v.Method(i), nil))
			}
		}
		return strings.Join(answers, ", ")
	}
	return words(out, " ")
}

// arguments are the numbers from 0 up for each number, and structs that are empty.
func arguments(method reflect.Type) [][]reflect.Value {
	all := [][]reflect.Value{nil}
	for i := range method.NumIn() {
		var next [][]reflect.Value
		for _, before := range all {
			for _, v := range argument(method.In(i), method.NumIn()) {
				next = append(next, append(slices.Clone(before), v))
			}
		}
		all = next
	}
	return all
}

func argument(of reflect.Type, beside int) (values []reflect.Value) {
	if of.Kind() == reflect.Struct {
		return []reflect.Value{reflect.Zero(of)}
	}
	for n := range map[bool]int{true: 24, false: 8}[beside == 1] {
		if v := reflect.ValueOf(n); v.CanConvert(of) && of.Kind() != reflect.String {
			values = append(values, v.Convert(of))
		}
	}
	return values
}

var (
	zeros = regexp.MustCompile(`0(?:,0){7,}`)
	times = regexp.MustCompile(`"(TimeStamp|ReferenceTime)":\d{10,}`)
)

func words(values []reflect.Value, separator string) string {
	var all []string
	for _, v := range values {
		switch value := v.Interface().(type) {
		case nvml.Return:
			all = append(all, fmt.Sprintf("ret %d", value))
		default:
			text, err := json.Marshal(value)
			if err != nil || v.Kind() == reflect.Interface {
				text = []byte(v.Type().String())
			}
			all = append(all, times.ReplaceAllString(zeros.ReplaceAllString(string(text), "0..."), `"$1":"now"`))
		}
	}
	return strings.Join(all, separator)
}
