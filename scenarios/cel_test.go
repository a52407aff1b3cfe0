package scenarios

import "testing"

func TestLookWithCEL(t *testing.T) {
	deployment := map[string]any{
		"spec":   map[string]any{"replicas": int64(3)},
		"status": map[string]any{"readyReplicas": int64(2), "conditions": []any{map[string]any{"type": "Available"}}},
	}
	vars := map[string]any{"object": deployment, "killed": []string{"a-0001"}, "pods": []any{deployment, deployment}}
	for _, test := range []struct {
		text string
		met  bool
		saw  string
	}{
		{"object.status.readyReplicas == 3", false, "2"},
		{"2 <= object.status.readyReplicas", true, "2"},
		{"object.status.readyReplicas == object.spec.replicas", false,
			"object.status.readyReplicas is 2, object.spec.replicas is 3"},
		{"object.status.readyReplicas == 2 && object.spec.replicas > 1", true,
			"object.status.readyReplicas is 2, object.spec.replicas is 3"},
		{"object.status.availableReplicas == 3", false, "no such key: availableReplicas"},
		{"object.?status.?availableReplicas.orValue(0) == 3", false, "0"},
		{`object.status.conditions.exists(c, c.type == "Available")`, true, "true"},
		{`!("a-0001" in killed) && pods.size() == 2`, false, `!("a-0001" in killed) is false, pods.size() is 2`},
		{`pods.filter(p, p.status.readyReplicas == 2 && p.spec.replicas > 2).size() != 2 && true`, false,
			`pods.filter(p, p.status.readyReplicas == 2 && p.spec.replic… is 2, true is true`},
		{"killed", false, "does not give true or false"},
		{"object.spec.replicas == 3 || false", true, "true"},
	} {
		t.Run(test.text, func(t *testing.T) {
			p, err := compile(test.text, []string{"object", "killed", "pods"})
			if err != nil {
				t.Fatal(err)
			}
			got := p.look(vars)
			if got.met != test.met || got.saw != test.saw {
				t.Errorf("got %v, saw %q; want %v, %q", got.met, got.saw, test.met, test.saw)
			}
		})
	}
}
