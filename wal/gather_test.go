package wal

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGatherWaitsForThoseReleased(t *testing.T) {
	var g gatherer
	require.False(t, g.more(1, 0), "nothing is known yet")

	g.committed(20, 25, time.Millisecond)
	require.True(t, g.more(25, 0), "20 have been released and are not back")
	require.True(t, g.more(39, 300*time.Microsecond))
	require.False(t, g.more(40, 300*time.Microsecond), "seven in eight are there")
	require.False(t, g.more(25, time.Millisecond), "no longer than a sync takes")
}

func TestGatherLeavesTheLonelyAlone(t *testing.T) {
	var g gatherer
	g.committed(1, 0, time.Millisecond)
	require.False(t, g.more(1, 0))
	g.committed(gatherLeast-1, 50, time.Millisecond)
	require.False(t, g.more(gatherLeast, 0))
}

func TestGatherRestsWhenNobodyComes(t *testing.T) {
	var g gatherer
	g.committed(20, 20, time.Millisecond)
	g.gathered(0, 0)
	require.True(t, g.more(20, 0), "there was no pause that could have brought anything")
	g.gathered(5, time.Millisecond)
	require.True(t, g.more(20, 0))
	g.gathered(0, time.Millisecond)
	for i := range gatherRest {
		require.False(t, g.more(20, 0), "commit %d after one that waited in vain", i)
	}
	require.True(t, g.more(20, 0), "tried again")
}

func TestGatherIsShortOnAFastDisk(t *testing.T) {
	var g gatherer
	g.committed(20, 20, gatherStep)
	require.False(t, g.more(20, 0), "a pause would take longer than a sync")
}

func TestGatherGoesOnForWhoAsks(t *testing.T) {
	l := &Log{}
	require.False(t, l.gatherNotLocked())
	l.mu.syncWant = 1
	require.True(t, l.gatherNotLocked(), "Sync waits")
	l.written.Store(1)
	require.False(t, l.gatherNotLocked())
	l.mu.bytes = gatherBytes
	require.True(t, l.gatherNotLocked(), "enough for a sync")
	l.mu.bytes, l.mu.closing = 0, true
	require.True(t, l.gatherNotLocked())
	l.mu.closing, l.mu.err = false, ErrClosed
	require.True(t, l.gatherNotLocked())
}
