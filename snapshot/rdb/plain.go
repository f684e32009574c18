package rdb

import "encoding/binary"

// ReadLen reads a length as AppendLen writes it, and Redis: 6, 14, 32 or 64 bits. It refuses the forms that announce a
// specially encoded string.
func ReadLen(p []byte) (n uint64, rest []byte, ok bool) {
	if len(p) == 0 {
		return 0, nil, false
	}
	switch b := p[0]; {
	case b>>6 == 0:
		return uint64(b), p[1:], true
	case b>>6 == 1 && len(p) >= 2:
		return uint64(b&0x3f)<<8 | uint64(p[1]), p[2:], true
	case b == 0x80 && len(p) >= 5:
		return uint64(binary.BigEndian.Uint32(p[1:])), p[5:], true
	case b == 0x81 && len(p) >= 9:
		return binary.BigEndian.Uint64(p[1:]), p[9:], true
	}
	return 0, nil, false
}

// ReadString reads a string as AppendString writes it: a length and so many bytes. s points into p.
func ReadString(p []byte) (s, rest []byte, ok bool) {
	n, rest, ok := ReadLen(p)
	if !ok || n > uint64(len(rest)) {
		return nil, nil, false
	}
	return rest[:n:n], rest[n:], true
}
