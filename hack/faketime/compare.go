package main

import (
	"bufio"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// record is a step of a trace, as trace.go.txt writes it.
type record struct {
	Goroutine           uint64
	When                int64
	Random, Bytes, Scan uint64
	PCs                 [11]uint64
}

// before is how many steps before the first that differs are shown.
const before = 12

// compareTraces tells where two traces of a program part.
func compareTraces(w io.Writer, program, a, b string) error {
	table, err := symbols(program)
	if err != nil {
		return fmt.Errorf("reading the symbols of %s: %w", program, err)
	}
	readA, closeA, err := openTrace(a)
	if err != nil {
		return err
	}
	defer closeA()
	readB, closeB, err := openTrace(b)
	if err != nil {
		return err
	}
	defer closeB()
	var last []record
	for n := 0; ; n++ {
		x, errX := readA()
		y, errY := readB()
		if errX != nil || errY != nil {
			fmt.Fprintf(w, "%d steps are the same\n", n)
			return nil
		}
		if x == y {
			if last = append(last, x); len(last) > before {
				last = last[1:]
			}
			continue
		}
		for i, r := range last {
			fmt.Fprintf(w, "step %d, both\n", n-len(last)+i)
			show(w, table, r)
		}
		for i := 0; i < 3 && errX == nil && errY == nil; i++ {
			fmt.Fprintf(w, "step %d, %s\n", n+i, a)
			show(w, table, x)
			fmt.Fprintf(w, "step %d, %s\n", n+i, b)
			show(w, table, y)
			x, errX = readA()
			y, errY = readB()
		}
		return nil
	}
}

func openTrace(name string) (read func() (record, error), close func() error, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReaderSize(file, 1<<20)
	buf := make([]byte, binary.Size(record{}))
	return func() (r record, err error) {
		if _, err := io.ReadFull(in, buf); err != nil {
			return r, err
		}
		_, err = binary.Decode(buf, binary.NativeEndian, &r)
		return r, err
	}, file.Close, nil
}

func show(w io.Writer, table *gosym.Table, r record) {
	what := fmt.Sprintf("goroutine %d", r.Goroutine)
	if r.Goroutine>>63 != 0 {
		what = fmt.Sprintf("allocates %d", r.Goroutine<<1>>1)
	}
	fmt.Fprintf(w, "  %s at %s, random %x, %d bytes, %d since\n",
		what, time.Unix(0, r.When).UTC().Format("15:04:05.000000000"), r.Random, r.Bytes, r.Scan)
	for _, pc := range r.PCs {
		if pc == 0 {
			break
		}
		file, line, fn := table.PCToLine(pc - 1)
		if fn != nil {
			fmt.Fprintf(w, "    %s %s:%d\n", fn.Name, file, line)
		}
	}
}

// symbols reads a program's table of functions, which it has also without symbols.
func symbols(program string) (*gosym.Table, error) {
	file, err := elf.Open(program)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, lines := file.Section(".text"), file.Section(".gopclntab")
	if text == nil || lines == nil {
		return nil, errors.New("no Go program")
	}
	data, err := lines.Data()
	if err != nil {
		return nil, err
	}
	return gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
}
