package server

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGarbagePacer(t *testing.T) {
	p := newGarbagePacer()
	gc, user, total := 0.0, 0.0, 0.0
	second := func(share float64) (int, bool) {
		gc, user, total = gc+2*share, user+1, total+2
		percent, changed, free := p.observe(gc, user, total)
		require.False(t, free, "under load")
		return percent, changed
	}
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
		percent, changed := second(s.share)
		require.Equal(t, s.percent, percent, "second %d", i)
		require.Equal(t, s.changed, changed, "second %d", i)
	}
	percent, _, _ := p.observe(gc, user, total) // a clock that stands still
	require.Equal(t, idleGCPercent, percent)
	frees := 0
	for range 10 { // at rest
		total += 2
		if _, _, free := p.observe(gc, user, total); free {
			frees++
		}
	}
	require.Equal(t, 1, frees)
}
