package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

func fillForPreload(e *Engine) {
	cl := e.NewClient()
	for i := range 3000 {
		do(e, cl, "SET", fmt.Sprint("s", i), fmt.Sprint("value of ", i))
	}
	for i := range 300 {
		do(e, cl, "HSET", "big", fmt.Sprint("f", i), "a value that is long enough to make the hash big")
		do(e, cl, "RPUSH", "list", fmt.Sprint(i))
		do(e, cl, "ZADD", fmt.Sprint("z", i%7), fmt.Sprint(i), fmt.Sprint("m", i))
	}
	do(e, cl, "SET", "expires", "x", "PX", "100000")
	cl.DB = 3
	for i := range 500 {
		do(e, cl, "SADD", fmt.Sprint("set", i%50), fmt.Sprint(i))
	}
}

func (e *Engine) preloadNow() {
	e.wg.Add(1)
	e.preload(context.Background())
}

func TestPreload(t *testing.T) {
	ctx := context.Background()
	fs, c := vfs.NewMem(), &clock{ms: 1_700_000_000_000}
	e := mustOpen(t, testOptions(fs, c))
	fillForPreload(e)
	require.NoError(t, e.Checkpoint(ctx))
	want := e.Digest()
	require.NoError(t, e.Close(ctx))

	e = mustOpen(t, testOptions(fs, c))
	require.Positive(t, e.DB(0).Cold())
	require.Positive(t, e.DB(3).Cold())
	e.preloadNow()
	require.Zero(t, e.DB(0).Cold())
	require.Zero(t, e.DB(3).Cold())
	require.Equal(t, want, e.Digest())
	require.NoError(t, e.Close(ctx))

	// A budget ends it early, and nothing is lost by that.
	o := testOptions(fs, c)
	o.MaxMemory = 200 << 10
	e = mustOpen(t, o)
	e.preloadNow()
	require.Positive(t, e.DB(0).Cold())
	require.LessOrEqual(t, e.Stats().UsedBytes, o.MaxMemory)
	require.Equal(t, want, e.Digest())
	require.NoError(t, e.Close(ctx))
}

// TestPreloadBesideWrites changes keys, writes checkpoints and exchanges databases between any two holds of the lock by the
// preload: what memory shows stays the same as without it.
func TestPreloadBesideWrites(t *testing.T) {
	ctx := context.Background()
	seeds := uint64(8)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			c := &clock{ms: 1_700_000_000_000}
			var digests [2][20]byte
			for i, preload := range []bool{false, true} {
				fs := vfs.NewMem()
				e := mustOpen(t, testOptions(fs, c))
				fillForPreload(e)
				require.NoError(t, e.Checkpoint(ctx))
				require.NoError(t, e.Close(ctx))
				r := rand.New(rand.NewPCG(seed, 0))
				o := testOptions(fs, c)
				var cl *Client
				steps := 60
				step := func() {
					if steps--; steps < 0 {
						return
					}
					key := fmt.Sprint("s", r.IntN(4000))
					switch r.IntN(8) {
					case 0:
						do(e, cl, "DEL", key)
					case 1, 2:
						do(e, cl, "SET", key, fmt.Sprint("new ", steps))
					case 3:
						do(e, cl, "HSET", "big", fmt.Sprint("f", r.IntN(400)), "changed")
					case 4:
						require.NoError(t, e.Checkpoint(ctx))
					case 5:
						e.UnloadAll()
					case 6:
						do(e, cl, "APPEND", key, "+")
					case 7:
						if r.IntN(6) == 0 {
							do(e, cl, "SWAPDB", "0", "3")
						}
					}
				}
				inside := false
				o.between = func() {
					if preload && !inside {
						inside = true
						step()
						inside = false
					}
				}
				e = mustOpen(t, o)
				cl = e.NewClient()
				if preload {
					e.preloadNow()
				}
				for steps > 0 {
					inside = true
					step()
					inside = false
				}
				digests[i] = e.Digest()
				require.NoError(t, e.Close(ctx))
				e = mustOpen(t, testOptions(fs, c))
				require.Equal(t, digests[i], e.Digest())
				require.NoError(t, e.Close(ctx))
			}
			require.Equal(t, digests[0], digests[1])
		})
	}
}

// Keys are loaded once the stream leaves half of the time, and in any case when patience ends.
func TestAwaitQuiet(t *testing.T) {
	for _, x := range []struct {
		name string
		work []time.Duration // of each look
		want time.Duration
	}{
		{"no stream", nil, preloadCalm * preloadLook},
		{"caught up", []time.Duration{90, 60, 51, 50, 50, 50, 90}, 6 * preloadLook},
		{"not there at once", []time.Duration{0, 0, 90, 60, 50, 20, 0}, 7 * preloadLook},
		{"never", slices.Repeat([]time.Duration{100}, 1000), preloadPatience},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, sum, looks := time.Now(), time.Duration(0), 0
				awaitQuiet(t.Context(), func() time.Duration {
					if looks > 0 && looks <= len(x.work) {
						sum += x.work[looks-1] * time.Millisecond
					}
					looks++
					return sum
				})
				require.Equal(t, x.want, time.Since(start))
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				start = time.Now()
				awaitQuiet(ctx, func() time.Duration { return time.Since(start) })
				require.Zero(t, time.Since(start))
			})
		})
	}
}

func TestWorkTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w workTime
		require.Zero(t, w.total())
		end := w.begin()
		<-time.After(30 * time.Millisecond)
		require.Equal(t, 30*time.Millisecond, w.total())
		<-time.After(20 * time.Millisecond)
		end()
		<-time.After(time.Second)
		require.Equal(t, 50*time.Millisecond, w.total())
	})
}

// While everything is being read anyway, so many clients at most read keys of their own; who waits for a turn can be called off, and
// a turn that has ended is somebody else's.
func TestColdTurn(t *testing.T) {
	ctx := context.Background()
	e := mustOpen(t, testOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000}))
	defer func() { require.NoError(t, e.Close(ctx)) }()
	for range 2 * cap(e.coldTurns) {
		_, err := e.coldTurn(ctx)
		require.NoError(t, err, "nothing is being read: no limit")
	}
	e.preloadReads.Store(true)
	defer e.preloadReads.Store(false)
	var ends []func()
	for range cap(e.coldTurns) {
		end, err := e.coldTurn(ctx)
		require.NoError(t, err)
		ends = append(ends, end)
	}
	off, cancel := context.WithCancel(ctx)
	refused := make(chan error)
	go func() {
		_, err := e.coldTurn(off)
		refused <- err
	}()
	cancel()
	require.ErrorIs(t, <-refused, context.Canceled)
	_, err := e.coldTurn(off)
	require.ErrorIs(t, err, context.Canceled)
	ends[0]()
	end, err := e.coldTurn(ctx)
	require.NoError(t, err)
	end()
	for _, end := range ends[1:] {
		end()
	}
	require.Empty(t, e.coldTurns)
}

// A stream behind a load that took much longer than the preload will is not waited for.
func TestBehindLongLoad(t *testing.T) {
	ctx := context.Background()
	o := testOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000})
	e := mustOpen(t, o)
	cl := e.NewClient()
	const keys = 1000
	for i := range keys {
		do(e, cl, "SET", fmt.Sprint("key", i), "v")
	}
	require.NoError(t, e.Checkpoint(ctx))
	require.NoError(t, e.Close(ctx))
	o.NoPreload = true
	e = mustOpen(t, o)
	defer e.Close(ctx)
	require.False(t, e.behindLongLoad())
	e.loadTook.Store(int64(2 * keys * preloadKeyTime))
	require.False(t, e.behindLongLoad())
	e.loadTook.Add(1)
	require.True(t, e.behindLongLoad())
}
