// Package playback reads the output of a program that was built with the
// faketime tag. The Go runtime then puts a header before each write to standard
// output and standard error, which gives the virtual time of every write for
// nothing.
package playback

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// magic opens each header: it is followed by 8 bytes of Unix nanoseconds and 4
// bytes of length, both big-endian.
var magic = []byte{0, 0, 'P', 'B'}

const headerSize = 4 + 8 + 4

// maxWrite bounds one write, so that a damaged header does not ask for all
// memory.
const maxWrite = 64 << 20

// A Reader takes such output apart.
type Reader struct{ r *bufio.Reader }

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{bufio.NewReaderSize(r, 64<<10)} }

// Next returns the next piece of output and the virtual time at which it was
// written. Output without a header, such as a runtime crash writes, comes with
// a zero time. The error is io.EOF at the end, io.ErrUnexpectedEOF when the
// program ended in the middle of a write.
func (r *Reader) Next() (at time.Time, data []byte, err error) {
	head, err := r.r.Peek(headerSize)
	if len(head) == 0 {
		return time.Time{}, nil, err
	}
	if len(head) < headerSize || !bytes.Equal(head[:4], magic) {
		return r.raw()
	}
	nanos := binary.BigEndian.Uint64(head[4:12])
	length := binary.BigEndian.Uint32(head[12:16])
	if length > maxWrite {
		return time.Time{}, nil, fmt.Errorf("playback header asks for %d bytes, more than %d", length, maxWrite)
	}
	if _, err := r.r.Discard(headerSize); err != nil {
		return time.Time{}, nil, err
	}
	data = make([]byte, length)
	if n, err := io.ReadFull(r.r, data); err != nil {
		return time.Unix(0, int64(nanos)).UTC(), data[:n], io.ErrUnexpectedEOF
	}
	return time.Unix(0, int64(nanos)).UTC(), data, nil
}

// raw returns what is there up to the next header.
func (r *Reader) raw() (time.Time, []byte, error) {
	var data []byte
	for {
		b, err := r.r.ReadByte()
		if err != nil {
			if len(data) > 0 {
				return time.Time{}, data, nil
			}
			return time.Time{}, nil, err
		}
		data = append(data, b)
		if next, _ := r.r.Peek(len(magic)); bytes.Equal(next, magic) || b == '\n' {
			return time.Time{}, data, nil
		}
	}
}
