package engine

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// paceClock is an exportPace's world: time that passes while the export works, is kept waiting, or rests.
type paceClock struct {
	now         time.Time
	cpu         time.Duration
	ran, waited time.Duration // of other threads
	busy        int           // for how much of 100 of time that passes they run
	rested      time.Duration
	oversleep   time.Duration // by which each rest is longer than asked for
}

func newPace() (*exportPace, *paceClock) {
	c := &paceClock{now: time.Unix(1_700_000_000, 0), busy: 2 * paceBusy}
	p := &exportPace{
		now: func() time.Time { return c.now }, cpu: func() time.Duration { return c.cpu }, others: func() (ran, waited time.Duration) { return c.ran, c.waited },
		rest: func(_ context.Context, d time.Duration) {
			c.now = c.now.Add(d + c.oversleep)
			c.rested += d + c.oversleep
		},
	}
	p.begin()
	return p, c
}

// run has the export work for so much processor time in pieces of half a millisecond. Each takes blocked more, and for each
// 100 of time that passes the process's other threads wait for a processor for share of it.
func (c *paceClock) run(p *exportPace, work, blocked time.Duration, share int) (took time.Duration) {
	const piece = 500 * time.Microsecond
	began := c.now
	for ; work > 0; work -= piece {
		from := c.now
		c.now = c.now.Add(piece + blocked)
		c.cpu += piece
		p.step(context.Background())
		c.waited += c.now.Sub(from) * time.Duration(share) / 100
		c.ran += c.now.Sub(from) * time.Duration(c.busy) / 100
	}
	return c.now.Sub(began)
}

func TestExportPace(t *testing.T) {
	const work = 2 * time.Second
	t.Run("as fast as it can where nobody waits", func(t *testing.T) {
		p, c := newPace()
		require.Equal(t, work, c.run(p, work, 0, paceShort-1))
		require.Zero(t, c.rested)
	})
	t.Run("nor for a server that has little to do", func(t *testing.T) {
		p, c := newPace()
		c.busy = paceBusy - 1
		require.Equal(t, work, c.run(p, work, 0, 200))
		require.Zero(t, c.rested)
		c.busy = 2 * paceBusy
		c.run(p, work, 0, 200)
		require.True(t, p.short)
		c.busy = paceBusy / 3
		c.run(p, work, 0, 200)
		require.False(t, p.short)
	})
	t.Run("its share where processors are short", func(t *testing.T) {
		p, c := newPace()
		require.InDelta(t, float64(exportShare*work), float64(c.run(p, work, 0, 2*paceShort)), float64(2*paceLook*exportShare))
	})
	t.Run("rests that last too long are made up for", func(t *testing.T) {
		p, c := newPace()
		c.oversleep = time.Millisecond
		require.InDelta(t, float64(exportShare*work), float64(c.run(p, work, 0, 200)), float64(paceLook*exportShare))
	})
	t.Run("what it was kept waiting is others' time already", func(t *testing.T) {
		p, c := newPace()
		const blocked = (exportShare - 1) * 500 * time.Microsecond
		require.Equal(t, exportShare*work, c.run(p, work, blocked, 200))
		require.Zero(t, c.rested)
	})
	t.Run("nor is a long wait saved up", func(t *testing.T) {
		p, c := newPace()
		c.run(p, work, 0, 100)
		c.now = c.now.Add(time.Minute)
		c.waited += time.Minute
		require.InDelta(t, float64(exportShare*work), float64(c.run(p, work, 0, 100)), float64(paceLook*exportShare))
	})
	t.Run("faster again when they are free", func(t *testing.T) {
		p, c := newPace()
		c.run(p, work, 0, 100)
		require.True(t, p.short)
		require.Less(t, c.run(p, work, 0, paceShort/3), work+2*paceCalm*paceLook)
		require.False(t, p.short)
		rested := c.rested
		c.run(p, work, 0, paceShort/3)
		require.Equal(t, rested, c.rested)
	})
	t.Run("a moment's calm is none", func(t *testing.T) {
		p, c := newPace()
		c.run(p, work, 0, 100)
		for range 5 {
			c.run(p, 10*time.Millisecond, 0, 0)
			c.run(p, 30*time.Millisecond, 0, 100)
			require.True(t, p.short)
		}
	})
	t.Run("threads that end take their time along", func(t *testing.T) {
		p, c := newPace()
		c.waited = time.Hour
		c.run(p, 100*time.Millisecond, 0, 0)
		c.waited = 0
		c.run(p, work, 0, 0)
		require.False(t, p.short)
	})
}

// A rest ends with the export that rests.
func TestRestForEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	began := time.Now()
	restFor(ctx, time.Hour)
	require.Less(t, time.Since(began), time.Hour)
}
