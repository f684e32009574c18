package engine

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func threadPolicy(t *testing.T) int {
	policy, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	require.Zero(t, errno)
	return int(policy)
}

func TestHurryThread(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if !usualThread() {
		t.Skip("the tests run with a policy of their own")
	}
	if !hurryThread() {
		require.Equal(t, unix.SCHED_NORMAL, threadPolicy(t))
		require.False(t, hurryThread())
		return
	}
	require.Equal(t, unix.SCHED_FIFO, threadPolicy(t))
	require.False(t, usualThread())
	calmThread()
	require.True(t, usualThread())
}

// A goroutine keeps to its thread for a hold in which the thread hurries, so that the same thread calms down, and between holds only where
// the thread may not hurry.
func TestHoldsBindTheirThread(t *testing.T) {
	for _, refused := range []bool{false, true} {
		t.Run("refused="+strconv.FormatBool(refused), func(t *testing.T) {
			before := cannotHurry.Swap(refused)
			defer cannotHurry.Store(before)
			o := testOptions(vfs.NewMem(), &clock{})
			o.Manual = true
			e := mustOpen(t, o)
			var h holds
			h.begin(e)
			for range 3 {
				h.locked("test", func(func() bool) { require.True(t, h.bound) })
				require.Equal(t, !h.usual || !mayHurry(), h.bound)
				require.False(t, h.hurry)
			}
			e.mu.Lock()
			require.False(t, h.try())
			require.Equal(t, !h.usual || !mayHurry(), h.bound, "the lock was not free")
			e.mu.Unlock()
			h.end()
			require.False(t, h.bound)
			require.NoError(t, e.Abandon())
		})
	}
}

// TestHoldsEndCalm looks at the checkpoint's thread between its holds, and at the thread's policy in them: in a hurry as long as it has the
// lock and no longer.
func TestHoldsEndCalm(t *testing.T) {
	for _, refused := range []bool{false, true} {
		t.Run("refused="+strconv.FormatBool(refused), func(t *testing.T) {
			before := cannotHurry.Swap(refused)
			defer cannotHurry.Store(before)
			c := &clock{}
			o := testOptions(vfs.NewMem(), c)
			o.batch, o.Manual = 1, true
			calm, between := true, 0
			o.between = func() {
				between++
				calm = calm && usualThread()
			}
			e := mustOpen(t, o)
			cl := e.NewClient()
			for i := range 100 {
				do(e, cl, "SET", strconv.Itoa(i), "value")
			}
			runtime.LockOSThread() // the checkpoint runs on this goroutine
			defer runtime.UnlockOSThread()
			if !usualThread() {
				t.Skip("the tests run with a policy of their own")
			}
			require.NoError(t, e.Checkpoint(context.Background()))
			require.Greater(t, between, 200)
			require.True(t, calm)
			require.True(t, usualThread())

			var h holds
			h.begin(e)
			h.locked("test", func(func() bool) { require.Equal(t, !cannotHurry.Load(), !usualThread()) })
			h.end()
			require.NoError(t, e.Abandon())
		})
	}
}

// The kernel tells for how long other threads have run and waited: more than nothing where more of them want to run than there are processors.
func TestOtherThreads(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, err := os.Stat("/proc/self/schedstat"); err != nil {
		t.Skip("the kernel does not tell")
	}
	ranBefore, before := otherThreads()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4 * runtime.NumCPU()))
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 * runtime.NumCPU() {
		wg.Go(func() {
			for !stop.Load() {
			}
		})
	}
	start := time.Now()
	ran, after := otherThreads()
	for ; (after <= before || ran <= ranBefore) && time.Since(start) < 30*time.Second; ran, after = otherThreads() {
		runtime.Gosched()
	}
	stop.Store(true)
	wg.Wait()
	require.Greater(t, after, before)
	require.Greater(t, ran, ranBefore)
}
