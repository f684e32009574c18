package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// While the process takes more memory than goes with the budget, less is kept, in steps, down to three eighths; afterwards the whole
// budget is used up again.
func TestBudgetIsCutByTheOverrun(t *testing.T) {
	ctx := context.Background()
	overrun := int64(0)
	o := testOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000})
	o.MaxMemory = 1 << 20
	o.Overrun = func(budget int64) int64 {
		require.EqualValues(t, 1<<20, budget)
		return overrun
	}
	e := mustOpen(t, o)
	cl := e.NewClient()
	for i := range 3000 {
		do(e, cl, "SET", fmt.Sprint("k", i), strings.Repeat("x", 500))
		if i%100 == 99 {
			require.NoError(t, e.Checkpoint(ctx))
			e.Tick(ctx)
		}
	}
	require.NoError(t, e.Checkpoint(ctx))
	e.Tick(ctx)
	used := func() int64 { return e.Stats().UsedBytes }
	require.InDelta(t, 1<<20, used(), 2000)
	overrun = 1 << 30
	e.Tick(ctx)
	require.InDelta(t, 1<<20-1<<15, used(), 2000, "a step")
	for range 100 {
		e.Tick(ctx)
	}
	require.InDelta(t, 3<<17, used(), 2000, "three eighths of it at least are kept")
	require.EqualValues(t, 3<<17, e.Stats().Budget)
	overrun = -1 << 30
	for range 100 {
		e.Tick(ctx)
	}
	require.EqualValues(t, 1<<20, e.Stats().Budget)
	require.NoError(t, e.Close(ctx))
}
