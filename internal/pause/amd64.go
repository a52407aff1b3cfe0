package pause

import "encoding/binary"

// System calls of amd64: the number is in EAX, the arguments are in RDI, RSI,
// RDX and R10, the result comes back in RAX.
const (
	amd64Sigprocmask  = 14
	amd64Wait4        = 61
	amd64Sigtimedwait = 128
	amd64ExitGroup    = 231
)

// amd64 collects instructions. Writing the low half of a register clears its
// upper half.
type amd64 struct{ code []byte }

func (a *amd64) emit(b ...byte) { a.code = append(a.code, b...) }

func (a *amd64) emit32(v int32) {
	a.code = binary.LittleEndian.AppendUint32(a.code, uint32(v))
}

// Registers as instructions number them.
const (
	eax = 0
	edx = 2
	esi = 6
	edi = 7
)

// mov sets a register to a constant.
func (a *amd64) mov(register byte, v int32) {
	a.emit(0xb8 + register)
	a.emit32(v)
}

// movR10 sets R10 to a constant; the prefix takes it to the upper registers.
func (a *amd64) movR10(v int32) {
	a.emit(0x41, 0xb8+2)
	a.emit32(v)
}

// lea sets a register to the address of a label, which is counted from the end
// of the instruction.
func (a *amd64) lea(register byte, target int) {
	a.emit(0x48, 0x8d, 0x05|register<<3)
	a.emit32(int32(target - len(a.code) - 4))
}

func (a *amd64) syscall() { a.emit(0x0f, 0x05) }

// cmp compares EAX with a constant.
func (a *amd64) cmp(v int8) { a.emit(0x83, 0xf8, byte(v)) }

// jump goes to a label, which is counted from the end of the instruction, by one
// of the short jumps.
func (a *amd64) jump(opcode byte, target int) {
	a.emit(opcode, byte(int8(target-len(a.code)-2)))
}

const (
	jmp = 0xeb
	je  = 0x74
	jg  = 0x7f
)

func amd64Code() []byte {
	return assemble(func(at *labels) []byte {
		var a amd64
		// rt_sigprocmask(SIG_BLOCK, &signals, NULL, 8)
		a.mov(edi, sigBlock)
		a.lea(esi, at.signals)
		a.mov(edx, 0)
		a.movR10(sigsetSize)
		a.mov(eax, amd64Sigprocmask)
		a.syscall()
		// wait4(-1, NULL, WNOHANG, NULL) until there is none
		at.reap = len(a.code)
		a.mov(edi, anyChild)
		a.mov(esi, 0)
		a.mov(edx, wNoHang)
		a.movR10(0)
		a.mov(eax, amd64Wait4)
		a.syscall()
		a.cmp(0)
		a.jump(jg, at.reap)
		// rt_sigtimedwait(&signals, NULL, NULL, 8)
		at.wait = len(a.code)
		a.lea(edi, at.signals)
		a.mov(esi, 0)
		a.mov(edx, 0)
		a.movR10(sigsetSize)
		a.mov(eax, amd64Sigtimedwait)
		a.syscall()
		a.cmp(sigChld)
		a.jump(je, at.reap)
		a.cmp(-eIntr)
		a.jump(je, at.wait)
		a.cmp(sigTerm)
		a.jump(je, at.exit)
		a.cmp(sigInt)
		a.jump(je, at.exit)
		// exit_group(1), or of 0
		a.mov(edi, 1)
		a.jump(jmp, at.quit)
		at.exit = len(a.code)
		a.mov(edi, 0)
		at.quit = len(a.code)
		a.mov(eax, amd64ExitGroup)
		a.syscall()
		at.signals = len(a.code)
		return binary.LittleEndian.AppendUint64(a.code, signals)
	})
}
