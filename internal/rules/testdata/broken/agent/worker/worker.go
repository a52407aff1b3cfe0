package worker

import (
	"math/rand/v2"
	"os"

	"k8s.io/client-go/rest"

	"nodelet/agent"
	"nodelet/agent/probe"
)

var _ = rand.IntN(3)
var _ = os.Getenv("HOME")

type Wide interface {
	A()
	B()
	C()
	D()
	E()
	F()
}
