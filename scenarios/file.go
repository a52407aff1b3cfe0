package scenarios

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// noFile is what is seen of pods that have no such file.
const noFile = "none"

// lookFile looks at a file in the volumes of pods.
func (r *Runner) lookFile(e *FileExpect) (outcome, error) {
	reader, ok := r.cluster.(FileReader)
	if !ok {
		return outcome{}, errors.New("the volumes of this cluster's pods cannot be looked into")
	}
	all, as := 0, 0
	seen := map[string]int{}
	for _, p := range r.podsMatching(e.PodMatch) {
		if p.Spec.NodeName == "" || p.DeletionTimestamp != nil || p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed {
			continue
		}
		all++
		content, err := reader.ReadVolume(p.Spec.NodeName, p.UID, e.Volume, e.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			seen[noFile]++
		case err != nil:
			return outcome{}, fmt.Errorf("reading %s of volume %s of pod %s/%s: %w", e.Path, e.Volume, p.Namespace, p.Name, err)
		default:
			seen[short(content)]++
		}
		if err != nil && e.Absent || err == nil && e.Content != nil && content == *e.Content {
			as++
		}
	}
	met := all > 0 && as == all
	if e.Pods != nil {
		met = e.Pods.holds(as)
	}
	return outcome{met: met, saw: sawFiles(seen, all)}, nil
}

// sawFiles tells what pods have, what most have first.
func sawFiles(seen map[string]int, all int) string {
	if all == 0 {
		return "no pods"
	}
	contents := slices.SortedFunc(maps.Keys(seen), func(a, b string) int {
		return cmp.Or(cmp.Compare(seen[b], seen[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, content := range contents {
		parts = append(parts, fmt.Sprintf("%s in %d", content, seen[content]))
	}
	return strings.Join(parts, ", ") + fmt.Sprintf(", of %d", all)
}

// short is a file's content for people.
func short(content string) string {
	const most = 40
	if runes := []rune(content); len(runes) > most {
		content = string(runes[:most]) + "…"
	}
	return fmt.Sprintf("%q", content)
}

// String says what is expected.
func (e *FileExpect) String() string {
	expected := noFile
	if e.Content != nil {
		expected = short(*e.Content)
	}
	return fmt.Sprintf("%s %s/%s: %s", say("file", given(want{"pods", e.Pods}), e.Namespace, e.Selector, e.Name, e.Node), e.Volume, e.Path, expected)
}
