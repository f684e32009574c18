package server

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// A loop waits for a sync itself while those that it serves do, and stops when some of them read.
func TestCompany(t *testing.T) {
	if runtime.NumCPU() > companyProcs {
		require.False(t, (&company{served: 10, waited: 10}).alone())
		return
	}
	var k company
	require.False(t, k.alone(), "nobody is there")
	turn := func(readers, writers int) {
		for range readers {
			k.serve()
		}
		for range writers {
			k.serve()
			k.wait()
		}
	}
	turn(0, 1)
	require.True(t, k.alone())
	for range 100 {
		turn(2, 3)
	}
	require.False(t, k.alone(), "readers would wait")
	for range 100 {
		turn(0, 50)
	}
	require.True(t, k.alone(), "they have gone")
	for range 10 {
		turn(50, 0)
	}
	require.False(t, k.alone())
}
