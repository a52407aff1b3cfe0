package plan_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// FuzzPlan gives the plan a pod in a world, both as the input says: every byte
// is one choice, of the pod's spec first and then of what happens next. All the
// time it checks what must never be (see checks_test.go); once the input is used
// up the world stops changing, and the pod must come to rest where it should.
func FuzzPlan(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(randomLife(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { live(t, data) })
}

// TestRandomLives plays some thousand random lives, always the same ones. To
// play one alone: go test -run 'TestRandomLives/^17$' ./agent/plan
func TestRandomLives(t *testing.T) {
	lives := 4000
	if testing.Short() {
		lives = 400
	}
	for seed := range lives {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { live(t, randomLife(uint64(seed))) })
	}
}

// randomLife is an input of FuzzPlan.
func randomLife(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	data := make([]byte, 50+r.IntN(600))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// maxSteps bounds a life: longer inputs tell nothing more.
const maxSteps = 500

// live plays one life.
func live(t *testing.T, data []byte) {
	m := newModel(t, &choices{data})
	for range maxSteps {
		if m.choose.empty() {
			break
		}
		m.disturb()
		m.step()
	}
	m.calm()
}

// choices are the bytes of an input. Once they are used up every choice is 0.
type choices struct{ data []byte }

func (c *choices) empty() bool { return len(c.data) == 0 }

// n returns a choice from 0 to n-1.
func (c *choices) n(n int) int {
	if c.empty() {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return int(b) % n
}

// oneIn is true once in n choices, and never once they are used up.
func (c *choices) oneIn(n int) bool { return c.n(n) == n-1 }
