package engine

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// The same stream of commands, all in memory, and under conditions that must not show: checkpoints after every n
// commands, everything clean unloaded, a tiny memory budget, a reopen in between. Replies and digest stay the same.
func TestMetamorphic(t *testing.T) {
	steps, seeds := 3000, uint64(3)
	if testing.Short() {
		steps, seeds = 600, 1
	}
	type condition struct {
		name    string
		options func(*Options)
		each    func(t *testing.T, i int, e *Engine) *Engine
	}
	ctx := context.Background()
	checkpointEach := func(n int) func(t *testing.T, i int, e *Engine) *Engine {
		return func(t *testing.T, i int, e *Engine) *Engine {
			if i%n == 0 {
				require.NoError(t, e.Checkpoint(ctx))
			}
			return e
		}
	}
	conditions := []condition{
		{name: "checkpoint=1", each: checkpointEach(1)},
		{name: "checkpoint=17", each: checkpointEach(17)},
		{name: "checkpoint=5/unload=all", each: func(t *testing.T, i int, e *Engine) *Engine {
			if i%5 == 0 {
				require.NoError(t, e.Checkpoint(ctx))
				e.UnloadAll()
			}
			return e
		}},
		{name: "budget=8KiB/checkpoint=11", options: func(o *Options) { o.MaxMemory = 8 << 10 },
			each: func(t *testing.T, i int, e *Engine) *Engine {
				if i%11 == 0 {
					require.NoError(t, e.Checkpoint(ctx))
				}
				e.unloadCycle(ctx)
				return e
			}},
		{name: "reopen=97/checkpoint=29", each: func(t *testing.T, i int, e *Engine) *Engine {
			if i%29 == 0 {
				require.NoError(t, e.Checkpoint(ctx))
			}
			if i%97 == 0 {
				o := e.opts
				require.NoError(t, e.Close(ctx))
				e = mustOpen(t, o)
			}
			return e
		}},
		{name: "reload=61", each: func(t *testing.T, i int, e *Engine) *Engine {
			if i%61 == 0 {
				require.NoError(t, e.Reload(ctx))
			}
			return e
		}},
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		run := func(t *testing.T, c *condition) (replies []string, digest [20]byte) {
			clk := &clock{ms: 1_700_000_000_000}
			o := testOptions(vfs.NewMem(), clk)
			if c != nil && c.options != nil {
				c.options(&o)
			}
			e := mustOpen(t, o)
			cl := e.NewClient()
			w := newWorkload(seed)
			for i := range steps {
				atomic.AddInt64(&clk.ms, 37)
				args := w.next()
				// Which member SPOP takes is random, and unloading asks the same source: leave it to the crash test.
				if args[0] == "SPOP" {
					continue
				}
				out := do(e, cl, args...)
				replies = append(replies, strings.Join(args, " ")+" -> "+out)
				if c != nil {
					e = c.each(t, i+1, e)
				}
			}
			digest = digestOf(e)
			require.NoError(t, e.Close(ctx))
			if c != nil {
				require.NoError(t, Check(ctx, o, func(string) {}))
			}
			return replies, digest
		}
		plain, digest := run(t, nil)
		for _, c := range conditions {
			t.Run(fmt.Sprintf("seed=%d/%s", seed, c.name), func(t *testing.T) {
				replies, d := run(t, &c)
				for i := range plain {
					if plain[i] != replies[i] {
						t.Fatalf("command %d:\n  in memory  %.300q\n  here       %.300q", i, plain[i], replies[i])
					}
				}
				require.Equal(t, digest, d)
			})
		}
	}
}
