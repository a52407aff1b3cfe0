package pause

import "encoding/binary"

// System calls of arm64: the number is in X8, the arguments are in X0 to X3, the
// result comes back in X0.
const (
	arm64Sigprocmask  = 135
	arm64Wait4        = 260
	arm64Sigtimedwait = 137
	arm64ExitGroup    = 94
)

// arm64 collects instructions, which are four bytes each.
type arm64 struct{ code []byte }

func (a *arm64) emit(instruction uint32) {
	a.code = binary.LittleEndian.AppendUint32(a.code, instruction)
}

// movz sets a 64 bit register to a constant of 16 bits.
func (a *arm64) movz(register, v uint32) { a.emit(0xd2800000 | v<<5 | register) }

// movn sets a 64 bit register to the complement of a constant of 16 bits.
func (a *arm64) movn(register, v uint32) { a.emit(0x92800000 | v<<5 | register) }

// adr sets a register to the address of a label, which is counted from this
// instruction. The two lowest bits of the distance, in a place of their own, are
// 0 here.
func (a *arm64) adr(register uint32, target int) {
	words := uint32(target-len(a.code)) / 4
	a.emit(0x10000000 | words&0x7ffff<<5 | register)
}

func (a *arm64) svc() { a.emit(0xd4000001) }

// cmp compares X0 with a constant, cmn with the negative of one.
func (a *arm64) cmp(v uint32) { a.emit(0xf100001f | v<<10) }
func (a *arm64) cmn(v uint32) { a.emit(0xb100001f | v<<10) }

// Conditions of a branch.
const (
	equal   = 0x0
	greater = 0xc
)

// branchIf goes to a label, which is counted in words from this instruction, if
// the last comparison was so; branch always.
func (a *arm64) branchIf(condition uint32, target int) {
	a.emit(0x54000000 | uint32((target-len(a.code))/4)&0x7ffff<<5 | condition)
}

func (a *arm64) branch(target int) {
	a.emit(0x14000000 | uint32((target-len(a.code))/4)&0x3ffffff)
}

func arm64Code() []byte {
	return assemble(func(at *labels) []byte {
		var a arm64
		// rt_sigprocmask(SIG_BLOCK, &signals, NULL, 8)
		a.movz(0, sigBlock)
		a.adr(1, at.signals)
		a.movz(2, 0)
		a.movz(3, sigsetSize)
		a.movz(8, arm64Sigprocmask)
		a.svc()
		// wait4(-1, NULL, WNOHANG, NULL) until there is none
		at.reap = len(a.code)
		a.movn(0, ^anyChild)
		a.movz(1, 0)
		a.movz(2, wNoHang)
		a.movz(3, 0)
		a.movz(8, arm64Wait4)
		a.svc()
		a.cmp(0)
		a.branchIf(greater, at.reap)
		// rt_sigtimedwait(&signals, NULL, NULL, 8)
		at.wait = len(a.code)
		a.adr(0, at.signals)
		a.movz(1, 0)
		a.movz(2, 0)
		a.movz(3, sigsetSize)
		a.movz(8, arm64Sigtimedwait)
		a.svc()
		a.cmp(sigChld)
		a.branchIf(equal, at.reap)
		a.cmn(eIntr)
		a.branchIf(equal, at.wait)
		a.cmp(sigTerm)
		a.branchIf(equal, at.exit)
		a.cmp(sigInt)
		a.branchIf(equal, at.exit)
		// exit_group(1), or of 0
		a.movz(0, 1)
		a.branch(at.quit)
		at.exit = len(a.code)
		a.movz(0, 0)
		at.quit = len(a.code)
		a.movz(8, arm64ExitGroup)
		a.svc()
		at.signals = len(a.code)
		return binary.LittleEndian.AppendUint64(a.code, signals)
	})
}
