//go:build !race

package chaos

// manySeeds is how many seeds TestFaultsChangeNothing plays.
const manySeeds = 50
