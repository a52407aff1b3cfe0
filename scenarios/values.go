package scenarios

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"
	utiljson "k8s.io/apimachinery/pkg/util/json"
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

const aCount = `a whole number, or a comparison such as ">= 3"`

// comparisons are those of a Count, the longer ones first.
var comparisons = []string{"==", "!=", "<=", ">=", "<", ">"}

// UnmarshalYAML reads a count.
func (c *Count) UnmarshalYAML(n *yaml.Node) error {
	text, err := scalar(n, aCount)
	if err != nil {
		return err
	}
	c.Op = "=="
	rest := text
	for _, op := range comparisons {
		if after, ok := strings.CutPrefix(text, op); ok {
			c.Op, rest = op, strings.TrimSpace(after)
			break
		}
	}
	if c.N, err = strconv.Atoi(rest); err != nil || c.N < 0 {
		return fault(n, "%q: must be %s", text, aCount)
	}
	return nil
}

// holds reports whether n is as the count says.
func (c Count) holds(n int) bool {
	switch c.Op {
	case "!=":
		return n != c.N
	case "<":
		return n < c.N
	case "<=":
		return n <= c.N
	case ">":
		return n > c.N
	case ">=":
		return n >= c.N
	}
	return n == c.N
}

// String is the count as it stands in a sentence: "3" or ">= 3".
func (c Count) String() string {
	if c.Op == "==" || c.Op == "" {
		return strconv.Itoa(c.N)
	}
	return c.Op + " " + strconv.Itoa(c.N)
}

// UnmarshalYAML reads a manifest as kubectl would.
func (o *Object) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fault(n, "must be an object with apiVersion, kind and metadata")
	}
	asJSON(n)
	var decoded map[string]any
	if err := n.Decode(&decoded); err != nil {
		return err
	}
	data, err := json.Marshal(decoded)
	if err != nil {
		return fault(n, "cannot be written as JSON: %v", err)
	}
	var object map[string]any
	if err := utiljson.Unmarshal(data, &object); err != nil {
		return fault(n, "cannot be read as JSON: %v", err)
	}
	if why := notObject(object); why != "" {
		return fault(n, "%s", why)
	}
	*o = object
	return nil
}

// asJSON makes of a manifest's values what kubectl makes of them: dates, and
// keys that look like numbers, are text; yes and no are true and false.
func asJSON(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Style == 0 {
		switch tag := n.ShortTag(); {
		case tag == "!!timestamp":
			n.Tag = "!!str"
		case tag == "!!str" && slices.Contains(yes, n.Value):
			n.Tag, n.Value = "!!bool", "true"
		case tag == "!!str" && slices.Contains(no, n.Value):
			n.Tag, n.Value = "!!bool", "false"
		}
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && c.Kind == yaml.ScalarNode {
			if c.ShortTag() != "!!merge" {
				c.Tag = "!!str"
			}
			continue
		}
		asJSON(c)
	}
}

// The words for true and false of YAML 1.1, which Kubernetes reads.
var (
	yes = []string{"y", "Y", "yes", "Yes", "YES", "on", "On", "ON"}
	no  = []string{"n", "N", "no", "No", "NO", "off", "Off", "OFF"}
)

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
