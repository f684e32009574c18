package wal

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
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

// What a continuous sync makes durable gathers for a while, unless somebody waits for it: under always, or in a hurry.
func TestContinuousSyncGathers(t *testing.T) {
	for _, c := range []struct {
		policy              Policy
		continuous, hurried bool
		ready               bool
	}{
		{EverySec, false, false, false},
		{EverySec, false, true, false},
		{EverySec, true, false, false},
		{EverySec, true, true, true},
		{No, true, false, false},
		{No, true, true, true},
		{Always, false, false, true},
		{Always, true, false, true},
	} {
		l := &Log{ripener: time.NewTimer(time.Hour)}
		l.policy.Store(uint32(c.policy))
		l.continuous.Store(c.continuous)
		if c.hurried {
			l.hurried.Store(1)
		}
		l.mu.bytes, l.mu.kicked = 100, true
		require.Equal(t, c.ready, l.readyLocked(), c)
		require.Equal(t, !c.ready, l.mu.ripening, c)
		l.ripener.Stop()
		l.mu.ripe = true
		require.True(t, l.readyLocked(), c)
	}
}

// A hurry is over when all who were in one have ended theirs, and what has gathered when it begins goes at once.
func TestHurry(t *testing.T) {
	l := open(t, vfs.NewMem(), Options{Policy: EverySec})
	defer l.Close()
	l.SetContinuousSync(true)
	require.False(t, l.prompt())
	one, two := l.Hurry(), l.Hurry()
	require.True(t, l.prompt())
	one()
	one()
	require.True(t, l.prompt())
	two()
	require.False(t, l.prompt())

	l.writing.Lock() // holds the committer
	end := l.Append(set(1, 10), 0, 0)
	l.Kick()
	l.mu.Lock()
	l.mu.ripening = true // and nothing ripens
	l.ripener.Stop()
	l.mu.Unlock()
	l.writing.Unlock()
	defer l.Hurry()()
	require.NoError(t, l.WaitDurable(context.Background(), end))
}
