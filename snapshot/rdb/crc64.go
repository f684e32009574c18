package rdb

import "encoding/binary"

// crcPoly is the reflected form of the Jones polynomial 0xad93d23594c935a9 (Redis crc64.c).
const crcPoly = 0x95ac9329ac4bc9b5

// crcTables serve slicing by 8: crcTables[k][b] is the CRC of byte b followed by k zero bytes.
var crcTables = func() (t [8][256]uint64) {
	for i := range 256 {
		c := uint64(i)
		for range 8 {
			c = c>>1 ^ crcPoly&-(c&1)
		}
		t[0][i] = c
	}
	for k := 1; k < 8; k++ {
		for i := range 256 {
			t[k][i] = t[k-1][i]>>8 ^ t[0][byte(t[k-1][i])]
		}
	}
	return t
}()

// CRC64 is the running checksum of Redis: Jones polynomial, initial value 0, no complement. The zero value is ready.
type CRC64 uint64

// Update returns the checksum of what c covers followed by p.
func (c CRC64) Update(p []byte) CRC64 {
	v, t := uint64(c), &crcTables
	for ; len(p) >= 8; p = p[8:] {
		v ^= binary.LittleEndian.Uint64(p)
		v = t[7][byte(v)] ^ t[6][byte(v>>8)] ^ t[5][byte(v>>16)] ^ t[4][byte(v>>24)] ^
			t[3][byte(v>>32)] ^ t[2][byte(v>>40)] ^ t[1][byte(v>>48)] ^ t[0][v>>56]
	}
	for _, b := range p {
		v = v>>8 ^ t[0][byte(v)^b]
	}
	return CRC64(v)
}
