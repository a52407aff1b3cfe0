package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--version"}, 0, "agent unknown"},
		{[]string{"--help"}, 0, "--kubeconfig"},
		{[]string{"--no-such"}, 2, "unknown flag"},
		{[]string{"--kubeconfig", "f", "--hostname-override", "Not A Name", "--max-pods", "-1"}, 2, "MaxPods: -1: must be 0 or more"},
		{[]string{"--hostname-override", "n"}, 2, "--kubeconfig: must name a file"},
		{[]string{"--kubeconfig", "f", "--hostname-override", "n"}, 1, "no container runtime yet"},
	} {
		var out bytes.Buffer
		if code := run(test.args, &out, &out); code != test.code || !strings.Contains(out.String(), test.want) {
			t.Errorf("agent %q: exit %d\n%s\nwant %d and %q", test.args, code, &out, test.code, test.want)
		}
	}
}
