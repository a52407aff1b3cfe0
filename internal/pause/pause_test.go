package pause

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/arch/arm64/arm64asm"
	"golang.org/x/arch/x86/x86asm"
)

var update = flag.Bool("update", false, "write the listings in testdata anew; read them before you commit")

// TestListing holds the machine code against what a disassembler says it is.
func TestListing(t *testing.T) {
	for arch, disassemble := range map[string]func(code []byte, at int) (text string, size int, err error){
		"amd64": func(code []byte, at int) (string, int, error) {
			i, err := x86asm.Decode(code[at:], 64)
			return x86asm.IntelSyntax(i, uint64(at), nil), i.Len, err
		},
		"arm64": func(code []byte, at int) (string, int, error) {
			i, err := arm64asm.Decode(code[at:])
			return arm64asm.GNUSyntax(i), 4, err
		},
	} {
		program, err := Binary(arch)
		if err != nil {
			t.Fatal(err)
		}
		code := program[codeOffset:]
		end := len(code) - sigsetSize
		var listing strings.Builder
		for at := 0; at < end; {
			text, size, err := disassemble(code, at)
			if err != nil {
				t.Fatalf("%s: instruction at %#x: %v", arch, at, err)
			}
			fmt.Fprintf(&listing, "%02x: %s\n", at, text)
			at += size
		}
		fmt.Fprintf(&listing, "%02x: set of signals %#x\n", end, binary.LittleEndian.Uint64(code[end:]))
		name := filepath.Join("testdata", arch+".txt")
		if *update {
			if err := os.WriteFile(name, []byte(listing.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if listing.String() != string(want) {
			t.Errorf("%s is\n%s\n, want\n%s", arch, &listing, want)
		}
	}
}

// TestELF reads the executables as a loader does.
func TestELF(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		program, _ := Binary(arch)
		f, err := elf.NewFile(bytes.NewReader(program))
		if err != nil {
			t.Fatal(arch, err)
		}
		if f.Machine != machine || f.Type != elf.ET_EXEC || f.Entry != loadAddress+codeOffset {
			t.Errorf("%s: %+v", arch, f.FileHeader)
		}
		if len(f.Progs) != 2 || len(f.Sections) != 0 {
			t.Fatalf("%s: %d segments, %d sections", arch, len(f.Progs), len(f.Sections))
		}
		load, stack := f.Progs[0].ProgHeader, f.Progs[1].ProgHeader
		if load.Type != elf.PT_LOAD || load.Flags != elf.PF_R|elf.PF_X || load.Off != 0 || load.Vaddr != loadAddress ||
			load.Filesz != uint64(len(program)) || load.Memsz != load.Filesz {
			t.Errorf("%s: the segment is %+v", arch, load)
		}
		if stack.Type != elf.PT_GNU_STACK || stack.Flags != elf.PF_R|elf.PF_W {
			t.Errorf("%s: the stack is %+v", arch, stack)
		}
		if len(program) > 512 {
			t.Errorf("%s: %d bytes", arch, len(program))
		}
	}
}

func TestUnknownArchitecture(t *testing.T) {
	if _, _, err := Image("mips"); err == nil {
		t.Error("an image was made for mips")
	}
}

// TestImageIsTheSame: the reference stands for the content, and both are what
// they were. The references change with the program; nothing else depends on
// them.
func TestImageIsTheSame(t *testing.T) {
	for arch, want := range map[string]string{
		"amd64": "nodelet.local/pause:0fc8c5c366f1",
		"arm64": "nodelet.local/pause:aba64cab5234",
	} {
		first, ref, err := Image(arch)
		if err != nil {
			t.Fatal(err)
		}
		second, _, _ := Image(arch)
		if !bytes.Equal(first, second) || ref != want {
			t.Errorf("%s: %s, want %s", arch, ref, want)
		}
	}
}

// Tests run on this machine's architecture.
func writeProgram(t *testing.T) string {
	t.Helper()
	program, err := Binary(runtime.GOARCH)
	if err != nil {
		t.Skip(err)
	}
	name := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(name, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}
