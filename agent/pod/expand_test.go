package pod

import (
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	values := map[string]string{"A": "2", "B": "$(A)", "EMPTY": "", "a.b-c": "odd", "A(": "open"}
	value := func(name string) string {
		if v, ok := values[name]; ok {
			return v
		}
		return Reference(name)
	}
	for in, want := range map[string]string{
		"": "", "x": "x", "$(A)": "2", "a$(A)b$(A)": "a2b2",
		// Values are not expanded again, unknown references stay.
		"$(B)": "$(A)", "$(C)": "$(C)", "$(EMPTY)": "", "$()": "$()", "$(a.b-c)": "odd",
		// $$ is a dollar sign.
		"$$": "$", "$$(A)": "$(A)", "$$$(A)": "$2", "$$$$(A)": "$$(A)", "$(A)$$": "2$",
		// A dollar sign that begins nothing.
		"$": "$", "a$": "a$", "$A": "$A", "$ (A)": "$ (A)", "$(A)$": "2$", "$x$(A)": "$x2", "${A}": "${A}", "$ä$(A)": "$ä2",
		// Never closed.
		"$(A": "$(A", "$(": "$(", "$(A$$": "$(A$", "$($(A": "$($(A",
		// The first closing parenthesis ends it.
		"$(A$(A))": "$(A$(A))", "$(A()": "open", "$($(A))": "$($(A))", "$(A))": "2)",
		"\xff$(A)": "\xff2", "$\xff": "$\xff",
	} {
		if got := Expand(in, value); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// FuzzExpand: what has no dollar sign is untouched; escaping every dollar sign
// undoes any reference; without references but for $$ nothing is lost.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"", "$", "$$(A)", "$(A)", "$(A", "a$(B)$$c", "$($(A))", "\xff$(\xfe)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		none := func(name string) string { t.Errorf("%q was looked up", name); return "" }
		if got := Expand(strings.ReplaceAll(s, "$", "$$"), none); got != s {
			t.Errorf("%q escaped and expanded is %q", s, got)
		}
		// Kept references leave all but $$ as it was, and may not hide one.
		if got := Expand(s, Reference); !strings.Contains(s, "$$") && got != s {
			t.Errorf("%q became %q", s, got)
		}
		calls := 0
		Expand(s, func(name string) string {
			calls++
			if strings.Contains(name, ")") {
				t.Errorf("the name %q", name)
			}
			return name
		})
		if calls > strings.Count(s, "$(") {
			t.Errorf("%d references in %q", calls, s)
		}
	})
}
