package bench

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/redcon"
)

// A pause of the server is seen by every command that was due in it, not by one for each connection.
func TestPacedSeesAPauseInEveryCommandDue(t *testing.T) {
	const pause = 200 * time.Millisecond
	var once sync.Once
	addr := fakeServer(t, func(redcon.Command) string {
		once.Do(func() { <-time.After(pause) })
		return "+OK\r\n"
	})
	run, err := Paced{Addr: addr, Conns: 1, Rate: 1000, Script: func(i int) Script { return overwriter(1, i, 10, 8) }}.Start(t.Context())
	require.NoError(t, err)
	require.NoError(t, wait(t.Context(), 2*pause))
	require.NoError(t, run.Stop())
	res := run.Cut()
	require.GreaterOrEqual(t, res.Ops, int64(2*pause/time.Millisecond-20), "what was due during the pause is sent, and answered before the end")
	// Of the 200 due in the pause half waited at least half of it: of some 400 in all, a quarter.
	require.GreaterOrEqual(t, res.Latency.Quantile(0.9), pause/2)
	require.GreaterOrEqual(t, res.Latency.Max(), pause-5*time.Millisecond)
	require.Zero(t, run.Cut().Ops)
}

// A wrong answer ends the run, and Stop tells of it however often it is called.
func TestPacedTellsOfAWrongAnswer(t *testing.T) {
	addr := fakeServer(t, func(redcon.Command) string { return "-ERR no\r\n" })
	run, err := Paced{Addr: addr, Conns: 2, Rate: 1000, Script: func(i int) Script { return overwriter(1, i, 10, 8) }}.Start(t.Context())
	require.NoError(t, err)
	<-run.ctx.Done()
	require.ErrorContains(t, run.Stop(), "SET answered")
	require.ErrorContains(t, run.Stop(), "SET answered")
}

// The end of the caller's context is the end of the load and no failure.
func TestPacedEndsWithItsContext(t *testing.T) {
	addr := fakeServer(t, func(redcon.Command) string { return "+OK\r\n" })
	ctx, cancel := context.WithCancel(t.Context())
	run, err := Paced{Addr: addr, Conns: 1, Rate: 100, Script: func(i int) Script { return overwriter(1, i, 10, 8) }}.Start(ctx)
	require.NoError(t, err)
	cancel()
	require.NoError(t, run.Stop())
}
