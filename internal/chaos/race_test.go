//go:build race

package chaos

// manySeeds is smaller here: the race detector takes ten times as long.
const manySeeds = 10
