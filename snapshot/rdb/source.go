package rdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strconv"
)

// The encodings of a string that a length of form 11xxxxxx announces.
const (
	encInt8  = 0
	encInt16 = 1
	encInt32 = 2
	encLZF   = 3
)

// readChunk is the least that is asked of a reader at once.
const readChunk = 64 << 10

// maxIdleReads is after how many reads without bytes and without an error a reader counts as broken, as for bufio.
const maxIdleReads = 100

// source is a cursor over bytes that are all there (r nil) or that arrive from r. Bytes stay in b until discard, so
// slices of it remain valid within a record.
type source struct {
	b   []byte
	pos int
	r   io.Reader
	err error // of r, sticky, reported once b is used up

	idle int // reads in a row that returned neither bytes nor an error
}

// left returns how many bytes are known to remain; 0 < left when hints must be bounded.
func (s *source) left() int { return len(s.b) - s.pos }

// take returns the next n bytes. The buffer at most doubles with each read, so memory follows what has arrived.
func (s *source) take(n uint64) ([]byte, error) {
	for uint64(s.left()) < n {
		if s.r == nil {
			return nil, ErrTruncated
		}
		if s.err != nil {
			if errors.Is(s.err, io.EOF) || errors.Is(s.err, io.ErrUnexpectedEOF) {
				return nil, ErrTruncated
			}
			return nil, s.err
		}
		if cap(s.b)-len(s.b) == 0 {
			nb := make([]byte, len(s.b), max(readChunk, 2*cap(s.b)))
			copy(nb, s.b)
			s.b = nb
		}
		var m int
		m, s.err = s.r.Read(s.b[len(s.b):cap(s.b)])
		s.b = s.b[:len(s.b)+m]
		if m > 0 || s.err != nil {
			s.idle = 0
		} else if s.idle++; s.idle == maxIdleReads {
			s.err = io.ErrNoProgress
		}
	}
	p := s.b[s.pos : s.pos+int(n) : s.pos+int(n)]
	s.pos += int(n)
	return p, nil
}

func (s *source) byte() (byte, error) {
	p, err := s.take(1)
	if err != nil {
		return 0, err
	}
	return p[0], nil
}

func (s *source) u64() (uint64, error) {
	p, err := s.take(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(p), nil
}

func (s *source) double() (float64, error) {
	v, err := s.u64()
	return math.Float64frombits(v), err
}

// lenOrEnc reads a length, or with enc the code of a string encoding.
func (s *source) lenOrEnc() (n uint64, enc bool, err error) {
	c, err := s.byte()
	if err != nil {
		return 0, false, err
	}
	switch {
	case c>>6 == 0:
		return uint64(c), false, nil
	case c>>6 == 1:
		d, err := s.byte()
		return uint64(c&0x3f)<<8 | uint64(d), false, err
	case c>>6 == 3:
		return uint64(c & 0x3f), true, nil
	case c == 0x80:
		p, err := s.take(4)
		if err != nil {
			return 0, false, err
		}
		return uint64(binary.BigEndian.Uint32(p)), false, nil
	case c == 0x81:
		p, err := s.take(8)
		if err != nil {
			return 0, false, err
		}
		return binary.BigEndian.Uint64(p), false, nil
	}
	return 0, false, corrupt("length form")
}

func (s *source) len() (uint64, error) {
	n, enc, err := s.lenOrEnc()
	if err == nil && enc {
		err = corrupt("string encoding where a length belongs")
	}
	return n, err
}

// str reads a string in any encoding. The result aliases b or is fresh.
func (s *source) str() ([]byte, error) {
	n, enc, err := s.lenOrEnc()
	if err != nil {
		return nil, err
	}
	if !enc {
		return s.take(n)
	}
	switch n {
	case encInt8, encInt16, encInt32:
		p, err := s.take(1 << n)
		if err != nil {
			return nil, err
		}
		return strconv.AppendInt(nil, littleInt(p), 10), nil
	case encLZF:
		clen, err := s.len()
		if err != nil {
			return nil, err
		}
		ulen, err := s.len()
		if err != nil {
			return nil, err
		}
		if ulen == 0 {
			return nil, corrupt("lzf of nothing") // nobody compresses it, and Redis's decompressor reads beyond its input
		}
		p, err := s.take(clen)
		if err != nil {
			return nil, err
		}
		return decompressLZF(nil, p, ulen)
	}
	return nil, corrupt("string encoding")
}

// littleInt reads the signed little-endian integer of 1 to 8 bytes that p is.
func littleInt(p []byte) int64 {
	var v uint64
	for i, c := range p {
		v |= uint64(c) << (8 * i)
	}
	shift := 64 - 8*len(p)
	return int64(v<<shift) >> shift
}

// asciiDouble reads a score of TypeZSet: a length byte and text, or a code for a special value.
func (s *source) asciiDouble() (float64, error) {
	n, err := s.byte()
	if err != nil {
		return 0, err
	}
	switch n {
	case 253:
		return math.NaN(), nil
	case 254:
		return math.Inf(1), nil
	case 255:
		return math.Inf(-1), nil
	}
	p, err := s.take(uint64(n))
	if err != nil {
		return 0, err
	}
	return parseScore(p)
}

// parseScore reads a score as text; out of range becomes infinite, as strtod has it. Unlike strtod, which Redis takes at
// its word for however much of the text it understands, it wants all of it to be a number.
func parseScore(p []byte) (float64, error) {
	f, err := strconv.ParseFloat(string(p), 64)
	if bytes.IndexByte(p, '_') >= 0 { // Go's literals may have it between digits
		return 0, corrupt("score is no number")
	}
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, corrupt("score is no number")
	}
	return f, nil
}
