//go:build !race

package probe

const manyPods = 1000
