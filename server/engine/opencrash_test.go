package engine

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// A power cut before every write of a start, with each name and block that was not synced surviving or not: the next start has
// everything. Pebble exchanges its MANIFEST here.
func TestCrashWhileOpening(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewCrashableMem()
	clk := &clock{ms: 1_700_000_000_000}
	e := mustOpen(t, testOptions(mem, clk))
	do(e, e.NewClient(), "SET", "a", "1")
	require.NoError(t, e.Checkpoint(ctx))
	do(e, e.NewClient(), "SET", "b", "2")
	want := digestOf(e)
	require.NoError(t, e.log.Sync(ctx))
	require.NoError(t, e.Abandon())
	base := mem.CrashClone(vfs.CrashCloneCfg{})
	seed := uint64(1)
	if s, err := strconv.ParseUint(os.Getenv("HOLDFAST_SEED"), 10, 64); err == nil {
		seed = s
	}
	for k := int64(0); ; k++ {
		crashed := false
		for try := range uint64(8) {
			mem := base.CrashClone(vfs.CrashCloneCfg{})
			var writes atomic.Int64
			var clone *vfs.MemFS
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && writes.Add(1) == k+1 {
					clone = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, uint64(k)*8+try))})
				}
				return nil
			}))
			require.NoError(t, mustOpen(t, testOptions(fs, clk)).Abandon())
			if clone == nil {
				continue
			}
			crashed = true
			e, err := Open(testOptions(clone, clk))
			require.NoError(t, err, "HOLDFAST_SEED=%d, crash before write %d, try %d", seed, k, try)
			require.Equal(t, want, digestOf(e))
			require.NoError(t, e.Abandon())
		}
		if !crashed {
			t.Logf("%d writes", k)
			return
		}
	}
}
