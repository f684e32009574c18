package wal

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// faultyRun writes through small memtables while writes to some files fail: the k-th one, or it and all that follow.
type faultyRun struct {
	policy  Policy
	k       int64
	forGood bool
	hits    func(op errorfs.Op) bool
	mutant  mutant
}

// run tells whether the fault was met, and what is wrong. It must return: a log that fails neither hangs nor ends the
// process.
func (c faultyRun) run() (met bool, err error) {
	ctx := context.Background()
	mem := vfs.NewCrashableMem()
	var writes, acked atomic.Int64
	var armed, struck atomic.Bool
	fs := newFaultFS(mem, func(op errorfs.Op) error {
		if !armed.Load() || op.Kind.ReadOrWrite() != errorfs.OpIsWrite || !c.hits(op) {
			return nil
		}
		if n := writes.Add(1); n == c.k+1 || c.forGood && n > c.k {
			struck.Store(true)
			return errorfs.ErrInjected
		}
		return nil
	})
	var told atomic.Int64
	l, err := Open(Options{FS: fs, Dir: "wal", Policy: c.policy, MemTableBytes: 64 << 10, mutant: c.mutant,
		OnFailure: func(error) { told.Add(1) }, OnDurable: func(o Offset) { acked.Store(int64(o)) }})
	if err != nil {
		return false, err
	}
	if err := l.BeginID(idA); err != nil {
		return false, err
	}
	armed.Store(true)
	var want []byte
	var failure error
	for i := 0; i < 120; i++ {
		rec := set(i, i*311%3000)
		want = append(want, rec...)
		end := l.Append(rec, 0, 0)
		handOver(l, i)
		if i%8 != 7 {
			continue
		}
		if err := l.Sync(ctx); err != nil && failure == nil {
			failure = err
		} else if err == nil && failure != nil {
			return true, fmt.Errorf("A2: sync went well after %v", failure)
		} else if err == nil && l.Durable() < end {
			return true, fmt.Errorf("sync returned at %d, before %d", l.Durable(), end)
		}
	}
	durable := l.Durable()
	// A power cut before the log is closed: closing moves all into tables, which would hide what is missing in the commit log.
	announced := Offset(acked.Load())
	clone := mem.CrashClone(vfs.CrashCloneCfg{})
	closed := l.Close()
	switch {
	case failure != nil && (l.Err() == nil || closed == nil || told.Load() != 1):
		return true, fmt.Errorf("failed with %v, but Err is %v, Close %v, and OnFailure was called %d times", failure, l.Err(), closed, told.Load())
	case failure != nil && l.Durable() != durable:
		return true, errors.New("A2: durable moved after the failure")
	}
	// What was announced is there after the power cut, whatever failed.
	o := Options{FS: clone, Dir: "wal"}
	if err := Check(ctx, o, func(string) {}); err != nil {
		return struck.Load(), err
	}
	if l, err = Open(o); err != nil {
		return struck.Load(), err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if l.End() < announced {
		return struck.Load(), fmt.Errorf("W4: durable was %d, recovered up to %d", announced, l.End())
	}
	return struck.Load(), sameBytes(l, want)
}

func commitLogOps(op errorfs.Op) bool {
	return path.Base(path.Dir(op.Path)) == commitLogDir || path.Base(op.Path) == commitLogDir
}

func TestErrorAtEveryCommitLogWrite(t *testing.T) {
	for _, policy := range []Policy{Always, EverySec} {
		for _, forGood := range []bool{false, true} {
			t.Run(fmt.Sprintf("fsync=%s/for-good=%t", policy, forGood), func(t *testing.T) {
				t.Parallel()
				for k := int64(0); ; k += faultStride() {
					met, err := faultyRun{policy: policy, k: k, forGood: forGood, hits: commitLogOps}.run()
					require.NoError(t, err, "write %d fails", k)
					if !met {
						t.Logf("%d writes", k)
						return
					}
				}
			})
		}
	}
}

func faultStride() int64 {
	if testing.Short() {
		return 11
	}
	return 2
}

// Every other write: tables are tried again, a MANIFEST that fails ends the log; nothing that was announced is lost.
func TestErrorAtEveryOtherWrite(t *testing.T) {
	for k := int64(0); ; k += faultStride() {
		met, err := faultyRun{policy: Always, k: k, hits: func(op errorfs.Op) bool { return !commitLogOps(op) }}.run()
		require.NoError(t, err, "write %d fails", k)
		if !met {
			t.Logf("%d writes", k)
			return
		}
	}
}

// The fault tests are believed because they fail when the log goes on after a failed sync.
func TestMutantIgnoreFailure(t *testing.T) {
	// Which write stands where depends on the goroutines, so that one pass may miss what only some writes show.
	for range 5 {
		for k := int64(0); ; k++ {
			met, err := faultyRun{policy: Always, k: k, hits: commitLogOps, mutant: mutantIgnoreFailure}.run()
			if err != nil {
				t.Logf("found at write %d: %v", k, err)
				return
			}
			if !met {
				t.Logf("not found in %d writes", k)
				break
			}
		}
	}
	t.Fatal("the mutant was never found")
}

// A MANIFEST that cannot be written ends the log; Close does not wait for the flush that can never succeed.
func TestManifestFails(t *testing.T) {
	met, err := faultyRun{policy: Always, forGood: true,
		hits: func(op errorfs.Op) bool { return strings.Contains(path.Base(op.Path), "MANIFEST") }}.run()
	require.NoError(t, err)
	require.True(t, met)
}

// Tables that can never be written hold the log up, once its memtables are full; closing it goes on without them, and
// nothing is lost.
func TestTablesNeverWritten(t *testing.T) {
	ctx := context.Background()
	var armed atomic.Bool
	mem := vfs.NewCrashableMem()
	fs := newFaultFS(mem, func(op errorfs.Op) error {
		if armed.Load() && strings.HasSuffix(op.Path, ".sst") && op.Kind == errorfs.OpCreate {
			return errorfs.ErrInjected
		}
		return nil
	})
	l := open(t, fs, Options{Policy: No, MemTableBytes: 64 << 10})
	armed.Store(true)
	var want []byte
	for i := range 400 {
		rec := set(i, 3000)
		want = append(want, rec...)
		l.Append(rec, 0, 0)
		l.Kick()
	}
	require.NoError(t, l.Close())
	l = open(t, mem.CrashClone(vfs.CrashCloneCfg{}), Options{})
	require.Equal(t, Offset(len(want)), l.End())
	require.NoError(t, sameBytes(l, want))
	require.NoError(t, l.Sync(ctx))
	require.NoError(t, l.Close())
}

// An open that the commit log fails is an error, not a log.
func TestOpenFails(t *testing.T) {
	for k := int64(1); ; k++ {
		var writes atomic.Int64
		fs := newFaultFS(vfs.NewMem(), func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && writes.Add(1) == k {
				return errorfs.ErrInjected
			}
			return nil
		})
		l, err := Open(Options{FS: fs, Dir: "wal"})
		if err != nil {
			continue
		}
		_ = l.Close()
		if writes.Load() < k {
			return
		}
	}
}
