//go:build race

package probe

// manyPods is smaller here: the race detector itself fails on a bubble that
// runs many timers (go.dev/issue/78156).
const manyPods = 30
