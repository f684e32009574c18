package rdb

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// The checksum is that of the definition, bit by bit, for every length around that of the lanes and however the input is cut.
func TestCRC64Lanes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	p := make([]byte, 7*crcLane+5)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	want := make([]CRC64, len(p)+1) // of each prefix
	for i, b := range p {
		v := uint64(want[i]) ^ uint64(b)
		for range 8 {
			v = v>>1 ^ crcPoly&-(v&1)
		}
		want[i+1] = CRC64(v)
	}
	for n := range want {
		if n < 40 || n%crcLane < 10 || n%crcLane > crcLane-10 {
			require.Equal(t, want[n], CRC64(0).Update(p[:n]), n)
			require.Equal(t, want[len(p)], want[n].Update(p[n:]), n)
		}
	}
	for range 200 {
		var c CRC64
		for at := 0; at < len(p); {
			n := min(1+r.IntN(5*crcLane), len(p)-at)
			c = c.Update(p[at : at+n])
			at += n
			require.Equal(t, want[at], c)
		}
	}
}
