package worker

import (
	"math/rand/v2"
	"os"

	"k8s.io/client-go/rest"

	"nodelet/agent"
	"nodelet/agent/probe"
)

var (
	_ = rand.IntN(3)
	_ = os.Getenv("HOME")
	_ = rand.New(rand.NewPCG(1, 2))
	_ *rand.Rand
)

type Wide interface {
	A()
	B()
	C()
	D()
	E()
	F()
}

// NewMany asks for too much, besides what constructors are given anyway.
func NewMany(a, b int, c probe.Config, d, e, f int) {}

// NewFew does not.
func NewFew(a, b int, c probe.Config, d, e int, f probe.Deps) {}
