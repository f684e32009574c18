package rdb

import (
	"bytes"
	"encoding/binary"
	"strconv"
)

// packed is the entries of a ziplist, listpack, intset or zipmap, in order. Strings alias the blob; integers are decimal text.
type packed [][]byte

// texts holds the decimal text of integers in few allocations. What it has returned stays valid as it grows.
type texts []byte

func (t *texts) int(v int64) []byte {
	start := len(*t)
	*t = strconv.AppendInt(*t, v, 10)
	return (*t)[start:len(*t):len(*t)]
}

// ziplist checks and splits a ziplist: total bytes (4 LE), offset of the last entry (4 LE), count (2 LE, 65535 = unknown),
// entries {size of the entry before, encoding, data}, 0xff.
func ziplist(b []byte) (packed, error) {
	const head = 10
	if len(b) < head+1 || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)) || b[len(b)-1] != 0xff {
		return nil, corrupt("ziplist frame")
	}
	var ints texts
	out := make(packed, 0, min(int(binary.LittleEndian.Uint16(b[head-2:])), len(b)/2))
	pos, prev, last := head, 0, head
	for {
		if pos >= len(b) {
			return nil, corrupt("ziplist entry")
		}
		if b[pos] == 0xff {
			break
		}
		start := pos
		got := uint64(b[pos])
		pos++
		if got == 254 {
			if len(b)-pos < 4 {
				return nil, corrupt("ziplist entry")
			}
			got = uint64(binary.LittleEndian.Uint32(b[pos:]))
			pos += 4
		}
		if got != uint64(prev) || pos >= len(b) {
			return nil, corrupt("ziplist size of previous entry")
		}
		e, n, err := ziplistEntry(b[pos:], &ints)
		if err != nil {
			return nil, err
		}
		pos += n
		out, prev, last = append(out, e), pos-start, start
	}
	count := int(binary.LittleEndian.Uint16(b[8:]))
	if pos != len(b)-1 || uint64(binary.LittleEndian.Uint32(b[4:])) != uint64(last) || count != 65535 && count != len(out) {
		return nil, corrupt("ziplist header")
	}
	return out, nil
}

// ziplistEntry reads encoding and data; n is how many bytes both take.
func ziplistEntry(b []byte, t *texts) (e []byte, n int, err error) {
	c := b[0]
	head, size, isInt := 1, uint64(0), false
	switch {
	case c>>6 == 0:
		size = uint64(c)
	case c>>6 == 1 && len(b) >= 2:
		head, size = 2, uint64(c&0x3f)<<8|uint64(b[1])
	case c == 0x80 && len(b) >= 5:
		head, size = 5, uint64(binary.BigEndian.Uint32(b[1:]))
	case c >= 0xf1 && c <= 0xfd:
		return t.int(int64(c&0x0f) - 1), 1, nil
	case c == 0xc0:
		size, isInt = 2, true
	case c == 0xd0:
		size, isInt = 4, true
	case c == 0xe0:
		size, isInt = 8, true
	case c == 0xf0:
		size, isInt = 3, true
	case c == 0xfe:
		size, isInt = 1, true
	default:
		return nil, 0, corrupt("ziplist encoding")
	}
	if uint64(len(b)-head) < size {
		return nil, 0, corrupt("ziplist entry beyond end")
	}
	n = head + int(size)
	if isInt {
		return t.int(littleInt(b[head:n])), n, nil
	}
	return b[head:n:n], n, nil
}

// listpack checks and splits a listpack: total bytes (4 LE), count (2 LE, 65535 = unknown), entries {encoding, data,
// size of both read backwards}, 0xff.
func listpack(b []byte) (packed, error) {
	const head = 6
	if len(b) < head+1 || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)) || b[len(b)-1] != 0xff {
		return nil, corrupt("listpack frame")
	}
	var ints texts
	out := make(packed, 0, min(int(binary.LittleEndian.Uint16(b[head-2:])), len(b)/2))
	pos := head
	for {
		if pos >= len(b) {
			return nil, corrupt("listpack entry")
		}
		if b[pos] == 0xff {
			break
		}
		e, n, err := listpackEntry(b[pos:], &ints)
		if err != nil {
			return nil, err
		}
		var buf [5]byte
		back := appendBacklen(buf[:0], n)
		if !bytes.HasPrefix(b[pos+n:], back) {
			return nil, corrupt("listpack back length")
		}
		pos += n + len(back)
		out = append(out, e)
	}
	count := int(binary.LittleEndian.Uint16(b[4:]))
	if pos != len(b)-1 || count != 65535 && count != len(out) {
		return nil, corrupt("listpack header")
	}
	return out, nil
}

func listpackEntry(b []byte, t *texts) (e []byte, n int, err error) {
	c := b[0]
	head, size, isInt := 1, uint64(0), false
	switch {
	case c < 0x80:
		return t.int(int64(c)), 1, nil
	case c>>6 == 2:
		size = uint64(c & 0x3f)
	case c>>5 == 6 && len(b) >= 2:
		v := int64(c&0x1f)<<8 | int64(b[1])
		if v >= 1<<12 {
			v -= 1 << 13
		}
		return t.int(v), 2, nil
	case c>>4 == 14 && len(b) >= 2:
		head, size = 2, uint64(c&0x0f)<<8|uint64(b[1])
	case c == 0xf0 && len(b) >= 5:
		head, size = 5, uint64(binary.LittleEndian.Uint32(b[1:]))
	case c >= 0xf1 && c <= 0xf3:
		size, isInt = uint64(c-0xf1)+2, true
	case c == 0xf4:
		size, isInt = 8, true
	default:
		return nil, 0, corrupt("listpack encoding")
	}
	if uint64(len(b)-head) < size {
		return nil, 0, corrupt("listpack entry beyond end")
	}
	n = head + int(size)
	if isInt {
		return t.int(littleInt(b[head:n])), n, nil
	}
	return b[head:n:n], n, nil
}

// appendBacklen appends n in groups of 7 bits, most significant first; all but the first byte carry the high bit. The
// limits are one lower than they could be from two bytes on: that is how Redis's lpEncodeBacklen has them.
func appendBacklen(dst []byte, n int) []byte {
	size := 5
	switch {
	case n <= 127:
		size = 1
	case n < 16383:
		size = 2
	case n < 2097151:
		size = 3
	case n < 268435455:
		size = 4
	}
	for i := size - 1; i >= 0; i-- {
		c := byte(n>>(7*i)) & 127
		if i != size-1 {
			c |= 128
		}
		dst = append(dst, c)
	}
	return dst
}

// intset checks and splits an intset: width (4 LE: 2, 4 or 8), count (4 LE), ascending integers (LE).
func intset(b []byte) (packed, error) {
	if len(b) < 8 {
		return nil, corrupt("intset frame")
	}
	w, n := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
	if w != 2 && w != 4 && w != 8 || n == 0 || 8+w*n != uint64(len(b)) {
		return nil, corrupt("intset header")
	}
	out := make(packed, 0, n) // bounded: the bytes are there
	var (
		prev int64
		ints texts
	)
	for p := b[8:]; len(p) > 0; p = p[w:] {
		v := littleInt(p[:w])
		if len(out) > 0 && v <= prev {
			return nil, corrupt("intset order")
		}
		prev, out = v, append(out, ints.int(v))
	}
	return out, nil
}

// zipmap checks and splits a zipmap: count (1, 254 = unknown), pairs {length, key, length, free bytes (1), value, free bytes}, 0xff.
// A length is one byte, or 254 and 4 bytes LE.
func zipmap(b []byte) (packed, error) {
	if len(b) < 2 || b[len(b)-1] != 0xff {
		return nil, corrupt("zipmap frame")
	}
	var out packed
	pos := 1
	for pos < len(b) && b[pos] != 0xff {
		for side := range 2 {
			if pos >= len(b) || b[pos] == 255 {
				return nil, corrupt("zipmap pair")
			}
			n := uint64(b[pos])
			pos++
			if n == 254 {
				if len(b)-pos < 4 {
					return nil, corrupt("zipmap length")
				}
				n = uint64(binary.LittleEndian.Uint32(b[pos:]))
				pos += 4
			}
			free := 0
			if side == 1 {
				if pos >= len(b) {
					return nil, corrupt("zipmap pair")
				}
				free = int(b[pos])
				pos++
			}
			if uint64(len(b)-pos) < n+uint64(free) {
				return nil, corrupt("zipmap pair beyond end")
			}
			end := pos + int(n)
			out = append(out, b[pos:end:end])
			pos = end + free
		}
	}
	if pos != len(b)-1 || b[0] != 254 && int(b[0]) != len(out)/2 {
		return nil, corrupt("zipmap header")
	}
	return out, nil
}
