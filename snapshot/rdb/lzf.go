package rdb

import "slices"

// decompressLZF appends the n bytes that src (liblzf format) expands to. It grows dst as bytes come out, so that a
// hostile n allocates nothing.
//
//	000LLLLL            L+1 literal bytes follow
//	LLLooooo oooooooo   copy L+2 bytes from o+1 back; L = 7: a byte more of length between the two
func decompressLZF(dst, src []byte, n uint64) ([]byte, error) {
	start := len(dst)
	// Three input bytes make 264 at most, but text shrinks by less than 8 as a rule; append finds the rest.
	dst = slices.Grow(dst, int(min(n, 8*uint64(len(src)))))
	for i := 0; i < len(src); {
		c := int(src[i])
		i++
		if c < 32 {
			c++
			if i+c > len(src) {
				return nil, corrupt("lzf literal beyond input")
			}
			dst = append(dst, src[i:i+c]...)
			i += c
		} else {
			l := c >> 5
			if l == 7 {
				if i >= len(src) {
					return nil, corrupt("lzf length beyond input")
				}
				l += int(src[i])
				i++
			}
			if i >= len(src) {
				return nil, corrupt("lzf offset beyond input")
			}
			from := len(dst) - (c&31)<<8 - int(src[i]) - 1
			i++
			if from < start {
				return nil, corrupt("lzf reference before output")
			}
			for l += 2; l > 0; {
				m := min(l, len(dst)-from) // less than l: the ranges overlap, which is how runs are coded
				dst = append(dst, dst[from:from+m]...)
				l -= m
			}
		}
		if uint64(len(dst)-start) > n {
			return nil, corrupt("lzf output too long")
		}
	}
	if uint64(len(dst)-start) != n {
		return nil, corrupt("lzf output too short")
	}
	return dst, nil
}

// The reach of LZF's back references.
const (
	lzfMaxOffset = 1 << 13
	lzfMaxMatch  = 264
	lzfHashBits  = 13
)

// compressLZF appends the LZF form of src to dst. It always succeeds; the caller compares lengths and keeps the shorter.
func compressLZF(dst, src []byte) []byte {
	var last [1 << lzfHashBits]int32 // position + 1 of the newest occurrence of a hash of 3 bytes
	lit := 0
	flush := func(end int) {
		for lit < end {
			n := min(32, end-lit)
			dst = append(append(dst, byte(n-1)), src[lit:lit+n]...)
			lit += n
		}
	}
	for i := 0; i+2 < len(src); {
		h := (uint32(src[i])<<16 | uint32(src[i+1])<<8 | uint32(src[i+2])) * 2654435761 >> (32 - lzfHashBits)
		p := int(last[h]) - 1
		last[h] = int32(i + 1)
		if p < 0 || i-p > lzfMaxOffset || src[p] != src[i] || src[p+1] != src[i+1] || src[p+2] != src[i+2] {
			i++
			continue
		}
		n, most := 3, min(lzfMaxMatch, len(src)-i)
		for n < most && src[p+n] == src[i+n] {
			n++
		}
		flush(i)
		o, l := i-p-1, n-2
		if l < 7 {
			dst = append(dst, byte(l<<5|o>>8), byte(o))
		} else {
			dst = append(dst, byte(7<<5|o>>8), byte(l-7), byte(o))
		}
		i += n
		lit = i
	}
	flush(len(src))
	return dst
}

// AppendCompressed appends s as AppendString does, or LZF-compressed where that is shorter. Strings of up to 20 bytes
// are left alone, as Redis leaves them.
func AppendCompressed(dst, s []byte) []byte {
	const worthTrying = 20
	if len(s) <= worthTrying || uint64(len(s)) > 1<<31-2 {
		return AppendString(dst, s)
	}
	c := compressLZF(nil, s)
	if len(c)+4 >= len(s) {
		return AppendString(dst, s)
	}
	dst = AppendLen(append(dst, 0xc0|encLZF), uint64(len(c)))
	return append(AppendLen(dst, uint64(len(s))), c...)
}
