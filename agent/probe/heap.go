package probe

// dueHeap has the probe that is due first at its top.
type dueHeap []*probe

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

// Push adds a probe; it is called by package heap alone.
func (h *dueHeap) Push(x any) {
	pr := x.(*probe)
	pr.pos = len(*h)
	*h = append(*h, pr)
}

// Pop takes the last probe; it is called by package heap alone.
func (h *dueHeap) Pop() any {
	old := *h
	pr := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	pr.pos = -1
	return pr
}
