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

// Each step of slicing by 8 waits for the one before, while the processor could look up for several at a time. So long input is
// taken in three lanes side by side, whose checksums are then put together: the checksum of a text behind which n bytes follow is
// that of the text moved on over n zero bytes, xor that of the n bytes alone.

// crcLane is the length of a lane in bytes, a multiple of 8: long enough that putting together costs nothing beside it, short enough
// that what is written in chunks of some KiB has lanes.
const crcLane = 1 << 10

// crcMoves move a checksum on over crcLane zero bytes, by crcStep: crcMoves[7] is for its lowest byte.
var crcMoves = func() (t [8][256]uint64) {
	for k := range 8 {
		for bit := range 8 {
			v := uint64(1) << (8*(7-k) + bit)
			for range crcLane {
				v = v>>8 ^ crcTables[0][byte(v)]
			}
			t[k][1<<bit] = v
		}
		for b := range 256 {
			t[k][b] = t[k][b&-b] ^ t[k][b&(b-1)] // b's lowest bit, and the rest of it
		}
	}
	return t
}()

// CRC64 is the running checksum of Redis: Jones polynomial, initial value 0, no complement. The zero value is ready.
type CRC64 uint64

// Update returns the checksum of what c covers followed by p.
func (c CRC64) Update(p []byte) CRC64 {
	v, t := uint64(c), &crcTables
	for ; len(p) >= 3*crcLane; p = p[3*crcLane:] {
		x, y, z := p[:crcLane], p[crcLane:][:crcLane], p[2*crcLane:][:crcLane]
		var v1, v2 uint64
		for i := 0; i <= crcLane-8; i += 8 {
			v = crcStep(t, v^binary.LittleEndian.Uint64(x[i:]))
			v1 = crcStep(t, v1^binary.LittleEndian.Uint64(y[i:]))
			v2 = crcStep(t, v2^binary.LittleEndian.Uint64(z[i:]))
		}
		v = crcStep(&crcMoves, v) ^ v1
		v = crcStep(&crcMoves, v) ^ v2
	}
	for ; len(p) >= 8; p = p[8:] {
		v = crcStep(t, v^binary.LittleEndian.Uint64(p))
	}
	for _, b := range p {
		v = v>>8 ^ t[0][byte(v)^b]
	}
	return CRC64(v)
}

// crcStep looks each byte of v up, its lowest in the last table.
func crcStep(t *[8][256]uint64, v uint64) uint64 {
	return t[7][byte(v)] ^ t[6][byte(v>>8)] ^ t[5][byte(v>>16)] ^ t[4][byte(v>>24)] ^
		t[3][byte(v>>32)] ^ t[2][byte(v>>40)] ^ t[1][byte(v>>48)] ^ t[0][v>>56]
}
