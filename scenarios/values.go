package scenarios

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"
)

// fault is an error at a node; the decoder goes on and tells all of them.
func fault(n *yaml.Node, format string, args ...any) error {
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: ", n.Line) + fmt.Sprintf(format, args...)}}
}

// scalar is a node's text, or an error that says what was wanted.
func scalar(n *yaml.Node, wanted string) (string, error) {
	if n.Kind != yaml.ScalarNode {
		return "", fault(n, "must be %s", wanted)
	}
	return n.Value, nil
}

const aDuration = "a duration such as 30s or 1m30s"

// UnmarshalYAML reads a duration.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	text, err := scalar(n, aDuration)
	if err != nil {
		return err
	}
	parsed, err := time.ParseDuration(text)
	if err != nil || parsed < 0 {
		return fault(n, "%q: must be %s", text, aDuration)
	}
	d.Duration = parsed
	return nil
}

const aRange = "a duration such as 2s, or two such as 1s-3s"

// UnmarshalYAML reads one duration or a range of them.
func (r *Range) UnmarshalYAML(n *yaml.Node) error {
	text, err := scalar(n, aRange)
	if err != nil {
		return err
	}
	low, high, both := strings.Cut(text, "-")
	if !both {
		high = low
	}
	minimum, err1 := time.ParseDuration(low)
	maximum, err2 := time.ParseDuration(high)
	if err1 != nil || err2 != nil || minimum < 0 || maximum < minimum {
		return fault(n, "%q: must be %s", text, aRange)
	}
	r.Min, r.Max = minimum, maximum
	return nil
}

const aQuantity = "a quantity such as 100m or 2Gi"

// UnmarshalYAML reads a quantity.
func (q *Quantity) UnmarshalYAML(n *yaml.Node) error {
	text, err := scalar(n, aQuantity)
	if err != nil {
		return err
	}
	parsed, err := resource.ParseQuantity(text)
	if err != nil || parsed.Sign() < 0 {
		return fault(n, "%q: must be %s", text, aQuantity)
	}
	q.Quantity = parsed
	return nil
}

const aTaint = "key=value:Effect or key:Effect with NoSchedule, PreferNoSchedule or NoExecute"

// UnmarshalYAML reads a taint.
func (t *Taint) UnmarshalYAML(n *yaml.Node) error {
	text, err := scalar(n, aTaint)
	if err != nil {
		return err
	}
	pair, effect, ok := strings.Cut(text, ":")
	t.Key, t.Value, _ = strings.Cut(pair, "=")
	t.Effect = effect
	switch {
	case !ok || t.Key == "":
	case effect == "NoSchedule", effect == "PreferNoSchedule", effect == "NoExecute":
		return nil
	}
	return fault(n, "%q: must be %s", text, aTaint)
}
