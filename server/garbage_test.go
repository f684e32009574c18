package server

import (
	"bytes"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// garbageClock feeds a pacer, on two processors.
type garbageClock struct {
	p *garbagePacer
	s garbageSample
}

// second lets a second pass in which the collector has a share of all time, and the program another.
func (c *garbageClock) second(gc, user float64) (percent int, changed, free bool) {
	c.s.gc, c.s.user, c.s.total = c.s.gc+2*gc, c.s.user+2*user, c.s.total+2
	return c.p.observe(c.s)
}

func TestGarbagePacer(t *testing.T) {
	c := garbageClock{p: newGarbagePacer()}
	c.s.live = 1 << 20
	steps := []struct {
		share   float64
		percent int
		changed bool
	}{
		{0.10, busyGCPercent, false},
		{0, busyGCPercent, false}, {0, busyGCPercent, false}, {0, busyGCPercent, false},
		{0, idleGCPercent, true}, // calm for long enough
		{0, idleGCPercent, false},
		{0.01, idleGCPercent, false}, // a little work
		{0.05, busyGCPercent, true},
		{0, busyGCPercent, false}, {0, busyGCPercent, false}, {0.01, busyGCPercent, false}, // not calm yet
		{0, busyGCPercent, false}, {0, busyGCPercent, false}, {0, busyGCPercent, false},
		{0, idleGCPercent, true},
	}
	for i, s := range steps {
		percent, changed, free := c.second(s.share, 0.5)
		require.False(t, free, "under load")
		require.Equal(t, s.percent, percent, "second %d", i)
		require.Equal(t, s.changed, changed, "second %d", i)
	}
	percent, _, _ := c.p.observe(c.s) // a clock that stands still
	require.Equal(t, idleGCPercent, percent)
	frees := 0
	for range 10 { // at rest
		if _, _, free := c.second(0, 0); free {
			frees++
		}
	}
	require.Equal(t, 1, frees)
}

// Under load the garbage is bounded in bytes, within the two bounds in percent.
func TestGarbageBesideLiveData(t *testing.T) {
	for live, want := range map[int64]int{0: busyGCPercent, 1 << 20: busyGCPercent, 40 << 20: busyGCPercent, 64 << 20: 100,
		100 << 20: 64, 128 << 20: idleGCPercent, 8 << 30: idleGCPercent} {
		c := garbageClock{p: newGarbagePacer()}
		c.s.live = live
		percent, _, _ := c.second(0.05, 0.5)
		require.Equal(t, want, percent, "%d bytes", live)
	}
}

// A collector that takes much of the processor gets more memory, until it takes little.
func TestGarbageOfHardWork(t *testing.T) {
	c := garbageClock{p: newGarbagePacer()}
	c.s.live = 1 << 30
	until := func(share float64, want int) (seconds int) {
		for {
			if seconds++; seconds > 100 {
				t.Fatalf("never %d %%", want)
			}
			if percent, _, _ := c.second(share, 0.5); percent == want {
				return seconds
			}
		}
	}
	require.Equal(t, 1, until(0.03, idleGCPercent))
	for range 100 { // a fair share changes nothing, nor does one collection of gigabytes in a minute
		percent, changed, _ := c.second(0.03, 0.5)
		require.Equal(t, idleGCPercent, percent)
		require.False(t, changed)
	}
	require.Less(t, until(0.25, busyGCPercent), 10)
	for range 100 { // what it takes with more memory
		percent, changed, _ := c.second(0.10, 0.5)
		require.Equal(t, busyGCPercent, percent)
		require.False(t, changed)
	}
	require.Less(t, until(0.01, idleGCPercent), 60)
	until(0.25, busyGCPercent)
	for range calmSeconds {
		c.second(0, 0)
	}
	require.Equal(t, idleGCPercent, c.p.percent, "at rest")
}

// C's allocator takes the thresholds. (A C library without them has no such threshold that moves.)
func TestTuneMalloc(t *testing.T) {
	if runtime.GOOS == "linux" {
		if libs, err := os.ReadFile("/proc/self/maps"); err == nil && bytes.Contains(libs, []byte("musl")) {
			t.Skip("not glibc")
		}
	}
	require.True(t, tuneMalloc())
}
