package playback

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"
)

func header(at int64, n int) []byte {
	b := append([]byte{}, magic...)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

func TestReader(t *testing.T) {
	var stream []byte
	stream = append(stream, header(1_000_000_000, 3)...)
	stream = append(stream, "one"...)
	stream = append(stream, header(2_000_000_000, 0)...)
	stream = append(stream, "panic: gone\n"...)
	stream = append(stream, header(3_000_000_000, 4)...)
	stream = append(stream, "\x00\x00PB"...)
	stream = append(stream, "tail"...)

	want := []struct {
		at   int64
		data string
	}{{1, "one"}, {2, ""}, {0, "panic: gone\n"}, {3, "\x00\x00PB"}, {0, "tail"}}
	r := NewReader(iotest.OneByteReader(bytes.NewReader(stream)))
	for i, w := range want {
		at, data, err := r.Next()
		if err != nil {
			t.Fatalf("piece %d: %v", i, err)
		}
		if string(data) != w.data || w.at != 0 && !at.Equal(time.Unix(w.at, 0)) || w.at == 0 && !at.IsZero() {
			t.Errorf("piece %d: %v %q, want %ds %q", i, at, data, w.at, w.data)
		}
	}
	if _, _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestReaderCutShort(t *testing.T) {
	r := NewReader(bytes.NewReader(append(header(1, 9), "half"...)))
	if _, data, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) || string(data) != "half" {
		t.Errorf("a cut write gave %q, %v", data, err)
	}
	r = NewReader(bytes.NewReader(header(1, maxWrite+1)))
	if _, _, err := r.Next(); err == nil {
		t.Error("an absurd length was believed")
	}
}

func FuzzReader(f *testing.F) {
	f.Add(append(header(1, 2), "ok"...))
	f.Add([]byte("\x00\x00P"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewReader(bytes.NewReader(stream))
		total := 0
		for {
			_, data, err := r.Next()
			total += len(data)
			if err != nil {
				break
			}
		}
		if total > len(stream) {
			t.Errorf("%d bytes came out of %d", total, len(stream))
		}
	})
}
