package pause

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Binary returns the program for an architecture as in GOARCH. Only amd64 and
// arm64 are known.
func Binary(arch string) ([]byte, error) {
	switch arch {
	case "amd64":
		return executable(machineAMD64, amd64Code()), nil
	case "arm64":
		return executable(machineARM64, arm64Code()), nil
	}
	return nil, fmt.Errorf("there is no pause program for %s", arch)
}

// What ELF calls the machines.
const (
	machineAMD64 = 62
	machineARM64 = 183
)

// Sizes of the parts of an ELF file in front of the code, in bytes.
const (
	headerSize        = 64
	programHeaderSize = 56
	codeOffset        = headerSize + 2*programHeaderSize
)

// loadAddress is where the file is mapped: the usual place of programs, and far
// enough above 0 for vm.mmap_min_addr. Pages of up to 64 KiB divide it.
const loadAddress = 0x400000

// executable returns an ELF file of which the code is all: one segment, the file
// itself, is mapped to be read and run, and nothing can be written but the stack.
// Sections, symbols and a dynamic linker are not needed to run.
func executable(machine uint16, code []byte) []byte {
	const (
		typeExecutable         = 2
		segmentLoad            = 1
		segmentStack           = 0x6474e551
		execute, write, read   = 1, 2, 4
		pageAlignment          = 0x10000
		entry, programHeaderAt = loadAddress + codeOffset, headerSize
	)
	// 64 bits, little endian, version 1, System V.
	ident := [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}
	size := uint64(codeOffset + len(code))
	var file []byte
	put := func(values ...any) {
		for _, v := range values {
			// Append fails only for values without a fixed size.
			file, _ = binary.Append(file, binary.LittleEndian, v)
		}
	}
	// Type, machine, version, entry, offsets of program and section headers,
	// flags, size of this header, size and number of program headers, and of
	// section headers, and the section of names.
	put(ident, uint16(typeExecutable), machine, uint32(1), uint64(entry), uint64(programHeaderAt), uint64(0),
		uint32(0), uint16(headerSize), uint16(programHeaderSize), uint16(2), uint16(0), uint16(0), uint16(0))
	// Type, flags, offset, virtual and physical address, size in the file and in
	// memory, alignment.
	put(uint32(segmentLoad), uint32(read|execute), uint64(0), uint64(loadAddress), uint64(loadAddress),
		size, size, uint64(pageAlignment))
	// The stack must not be executable.
	put(uint32(segmentStack), uint32(read|write), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(16))
	return slices.Concat(file, code)
}
