package pause

// Numbers of Linux that are the same everywhere.
const (
	sigInt, sigTerm, sigChld = 2, 15, 17
	sigBlock                 = 0 // rt_sigprocmask: add to what is blocked
	wNoHang                  = 1 // wait4: do not wait
	anyChild                 = -1
	eIntr                    = 4
	sigsetSize               = 8 // bytes of a set of signals
)

// signals is the set that the program waits for: signal n is bit n-1.
const signals uint64 = 1<<(sigInt-1) | 1<<(sigTerm-1) | 1<<(sigChld-1)

// labels are offsets into the code. A program is put together twice: the first
// time finds out where its labels are, the second time uses them. That works
// because the length of an instruction does not depend on where it jumps to.
type labels struct{ reap, wait, exit, quit, signals int }

// assemble puts a program together.
func assemble(write func(*labels) []byte) []byte {
	var at labels
	write(&at)
	return write(&at)
}
