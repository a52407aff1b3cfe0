package main

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// pairs is a flag of pairs with commas between. As with pflag's own, the first
// use of the flag replaces what was there, others add.
type pairs struct {
	values *map[string]string
	// form is what a pair looks like: key=value, or signal<threshold.
	form string
	// bare allows a key alone, with an empty value.
	bare bool
	used bool
}

// Set adds pairs, or none if one of them is wrong.
func (p *pairs) Set(s string) error {
	added := map[string]string{}
	separator := p.separator()
	for part := range items(s) {
		key, value, found := strings.Cut(part, separator)
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if key == "" || !found && !p.bare {
			return fmt.Errorf("must be %s, with commas between several", p.form)
		}
		added[key] = value
	}
	if !p.used || *p.values == nil {
		*p.values = map[string]string{}
	}
	p.used = true
	maps.Copy(*p.values, added)
	return nil
}

func (p *pairs) separator() string {
	if strings.Contains(p.form, "<") {
		return "<"
	}
	return "="
}

// String writes the pairs as Set reads them.
func (p *pairs) String() string {
	if p.values == nil {
		return ""
	}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(*p.values)) {
		parts = append(parts, key+p.separator()+(*p.values)[key])
	}
	return strings.Join(parts, ",")
}

// Type is the form that help shows.
func (p *pairs) Type() string { return p.form + ",..." }

// headers is a flag of name:value pairs; a name may come more than once.
type headers struct {
	values *http.Header
	used   bool
}

// Set adds headers, or none if one of them is wrong.
func (h *headers) Set(s string) error {
	added := http.Header{}
	for part := range items(s) {
		name, value, found := strings.Cut(part, ":")
		if name = strings.TrimSpace(name); name == "" || !found {
			return errors.New("must be name:value, with commas between several")
		}
		added.Add(name, strings.TrimSpace(value))
	}
	if !h.used || *h.values == nil {
		*h.values = http.Header{}
	}
	h.used = true
	for name, values := range added {
		(*h.values)[name] = append((*h.values)[name], values...)
	}
	return nil
}

// String names the headers; their values may be secrets.
func (h *headers) String() string {
	if h.values == nil {
		return ""
	}
	return strings.Join(slices.Sorted(maps.Keys(*h.values)), ",")
}

// Type is the form that help shows.
func (h *headers) Type() string { return "name:value,..." }

// taints is a flag of taints, key=value:effect, with commas between. Whether
// their parts are allowed is for the agent's configuration to say.
type taints struct {
	list *[]v1.Taint
	used bool
}

// Set adds taints, or none if one of them is wrong.
func (t *taints) Set(s string) error {
	var added []v1.Taint
	for part := range items(s) {
		name, effect, found := strings.Cut(part, ":")
		key, value, _ := strings.Cut(name, "=")
		if key == "" || !found {
			return errors.New("must be key=value:effect or key:effect, with commas between several")
		}
		added = append(added, v1.Taint{Key: key, Value: value, Effect: v1.TaintEffect(effect)})
	}
	if !t.used {
		*t.list = nil
	}
	t.used = true
	*t.list = append(*t.list, added...)
	return nil
}

// String writes the taints as Set reads them.
func (t *taints) String() string {
	if t.list == nil {
		return ""
	}
	var parts []string
	for _, taint := range *t.list {
		parts = append(parts, taint.ToString())
	}
	return strings.Join(parts, ",")
}

// Type is the form that help shows.
func (t *taints) Type() string { return "key=value:effect,..." }

// items are the parts between commas that are not blank.
func items(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part != "" && !yield(part) {
				return
			}
		}
	}
}
