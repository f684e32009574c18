package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// crashRun is one life of a log on a file system whose power is cut before the k-th write.
type crashRun struct {
	policy   Policy
	k        int64
	unsynced int // percent of what was not synced that the cut leaves
	mutant   mutant
}

// crashWorkload writes some hundred KiB through memtables so small that the commit log rotates and tables are flushed,
// trims, and begins ids. want has all bytes that were appended, boundary every offset at which a record ends.
type crashWorkload struct {
	want     []byte
	boundary map[Offset]bool
	trimmed  atomic.Int64 // largest offset that Trim was asked for
}

func (w *crashWorkload) run(l *Log, policy Policy, from, to int) error {
	ctx := context.Background()
	for i := from; i < to; i++ {
		rec := set(i, i*311%3000)
		w.want = append(w.want, rec...)
		w.boundary[l.Append(rec, i%4, i%4)] = true
		handOver(l, i)
		if policy == Always && i%4 == 0 || i%25 == 24 {
			if err := l.Sync(ctx); err != nil {
				return err
			}
		}
		if i%40 == 39 {
			to := l.Durable() / 2
			w.trimmed.Store(max(w.trimmed.Load(), int64(to)))
			if err := l.Trim(to); err != nil {
				return err
			}
		}
		if i%60 == 59 {
			if err := l.BeginID(fmt.Sprintf("%040x", i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// run tells whether the power was cut within the run, and what is wrong with what it left.
func (c crashRun) run() (cut bool, err error) {
	ctx := context.Background()
	w := &crashWorkload{boundary: map[Offset]bool{0: true}}
	opts := func(fs vfs.FS) Options {
		return Options{FS: fs, Dir: "wal", Policy: c.policy, MaxChunkBytes: 8 << 10, MemTableBytes: 64 << 10, mutant: c.mutant}
	}
	// A first life that ends without Close, so that the second one begins with a recovery. (Creating a Pebble is not atomic;
	// whoever opens a new directory sees to that.)
	first := vfs.NewCrashableMem()
	l, err := Open(opts(first))
	if err != nil {
		return false, err
	}
	if err := errors.Join(l.BeginID(idA), w.run(l, c.policy, 0, 30), l.Sync(ctx)); err != nil {
		return false, err
	}
	mem := first.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
	if err := l.Close(); err != nil {
		return false, err
	}

	var writes, acked, ackedThen, trimmedThen atomic.Int64
	acked.Store(int64(len(w.want)))
	var left atomic.Pointer[vfs.MemFS]
	fs := newFaultFS(mem, func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && writes.Add(1) == c.k+1 {
			ackedThen.Store(acked.Load())
			left.Store(mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.unsynced, RNG: rand.New(rand.NewPCG(uint64(c.k), 9))}))
			trimmedThen.Store(w.trimmed.Load())
		}
		return nil
	})
	o := opts(fs)
	o.OnDurable = func(o Offset) { acked.Store(int64(o)) }
	if l, err = Open(o); err != nil {
		return false, err
	}
	if err := errors.Join(w.run(l, c.policy, 30, 150), l.Close()); err != nil {
		return false, err
	}
	clone := left.Load()
	if clone == nil {
		return false, nil
	}

	// The life after the cut.
	o = opts(clone)
	o.mutant = 0
	if err := Check(ctx, o, func(string) {}); err != nil {
		return true, fmt.Errorf("check: %w", err)
	}
	if l, err = Open(o); err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if l.End() < Offset(ackedThen.Load()) {
		return true, fmt.Errorf("W4: durable was %d, recovered up to %d", ackedThen.Load(), l.End())
	}
	if !w.boundary[l.End()] || !w.boundary[l.First()] {
		return true, fmt.Errorf("W2: from %d to %d", l.First(), l.End())
	}
	if int64(l.First()) > trimmedThen.Load() {
		return true, fmt.Errorf("W6: begins at %d, trimmed to %d", l.First(), trimmedThen.Load())
	}
	if err := sameBytes(l, w.want); err != nil {
		return true, err
	}
	// It goes on from there.
	rec := set(1, 100)
	want := append(bytes.Clone(w.want[:l.End()]), rec...)
	l.Append(rec, 0, 0)
	if err := errors.Join(l.Sync(ctx), sameBytes(l, want)); err != nil {
		return true, fmt.Errorf("after recovery: %w", err)
	}
	return true, nil
}

// sameBytes compares what the log has with a prefix of want.
func sameBytes(l *Log, want []byte) (err error) {
	r, err := l.NewReader(l.First())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for r.Offset() < l.Durable() {
		at, data, err := r.Next(context.Background())
		if err != nil {
			return err
		}
		if !bytes.Equal(data, want[at:int(at)+len(data)]) {
			return fmt.Errorf("R1: other bytes at %d", at)
		}
	}
	return nil
}

// crashStride is the distance between cuts: every write with HOLDFAST_CRASH_STRIDE=1 (`make crash`), every few otherwise.
func crashStride(t *testing.T) int64 {
	if s := os.Getenv("HOLDFAST_CRASH_STRIDE"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		require.NoError(t, err)
		return max(n, 1)
	}
	if testing.Short() {
		return 29
	}
	return 5
}

func TestCrashAtEveryWrite(t *testing.T) {
	stride := crashStride(t)
	for _, policy := range []Policy{Always, EverySec, No} {
		for _, unsynced := range []int{0, 50} {
			t.Run(fmt.Sprintf("fsync=%s/unsynced=%d", policy, unsynced), func(t *testing.T) {
				t.Parallel()
				for k := int64(0); ; k += stride {
					cut, err := crashRun{policy: policy, k: k, unsynced: unsynced}.run()
					require.NoError(t, err, "cut before write %d", k)
					if !cut {
						t.Logf("%d cuts", (k+stride-1)/stride)
						return
					}
				}
			})
		}
	}
}

// The crash test is believed because it fails when durability is announced before the sync.
func TestCrashMutantAckBeforeSync(t *testing.T) {
	for k := int64(0); ; k++ {
		cut, err := crashRun{policy: Always, k: k, mutant: mutantAckBeforeSync}.run()
		if err != nil {
			require.ErrorContains(t, err, "W4")
			t.Logf("found at write %d: %v", k, err)
			return
		}
		require.True(t, cut, "the mutant was never found")
	}
}

// TruncateTo and Reset are one batch each: a cut leaves the log as before or as after.
func TestCrashTruncateReset(t *testing.T) {
	for _, what := range []string{"truncate", "reset"} {
		for k := int64(0); ; k++ {
			mem := vfs.NewCrashableMem()
			var armed atomic.Bool
			var writes atomic.Int64
			var left atomic.Pointer[vfs.MemFS]
			fs := newFaultFS(mem, func(op errorfs.Op) error {
				if armed.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && writes.Add(1) == k+1 {
					left.Store(mem.CrashClone(vfs.CrashCloneCfg{}))
				}
				return nil
			})
			l := open(t, fs, Options{})
			require.NoError(t, l.BeginID(idA))
			l.Append(set(1, 100), 0, 0)
			cut := l.Append(set(2, 100), 0, 0)
			require.NoError(t, l.BeginID(idB))
			end := l.Append(set(3, 100), 0, 0)
			require.NoError(t, l.Sync(context.Background()))
			armed.Store(true)
			after := [2]Offset{0, cut}
			if what == "truncate" {
				require.NoError(t, l.TruncateTo(cut))
			} else {
				after = [2]Offset{5000, 5000}
				require.NoError(t, l.Reset(5000, []LineageEntry{{idB, 10, -1}}))
			}
			require.NoError(t, l.Close())
			if left.Load() == nil {
				require.NotZero(t, k)
				break
			}
			require.NoError(t, Check(context.Background(), Options{FS: left.Load(), Dir: "wal"}, func(string) {}))
			l = open(t, left.Load(), Options{})
			require.Contains(t, [][2]Offset{{0, end}, after}, [2]Offset{l.First(), l.End()}, "%s, cut before write %d", what, k)
			require.NoError(t, l.Close())
		}
	}
}
