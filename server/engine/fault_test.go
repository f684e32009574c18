package engine

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

	"github.com/holdfast-db/holdfast/wal"
)

// faultFS is errorfs that also sees what happens to the files of ReuseForWrite: Pebble reuses those of its commit log.
type faultFS struct{ vfs.FS }

func (f faultFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	bare, err := f.FS.ReuseForWrite(old, name, c)
	if err != nil {
		return nil, err
	}
	seen, err := f.FS.OpenReadWrite(name, c)
	if err = errors.Join(err, bare.Close()); err != nil {
		return nil, err
	}
	return seen, nil
}

// fault fails the k-th operation that hits says, of those after it is armed. A write that fails in the short way has written
// half of its bytes.
type fault struct {
	mem    *vfs.MemFS
	k      int64
	hits   func(op errorfs.Op) bool
	short  bool
	seen   atomic.Int64
	armed  atomic.Bool
	struck atomic.Bool
}

func (f *fault) fs() vfs.FS {
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f.armed.Load() && f.hits(op) && f.seen.Add(1) == f.k+1 {
			f.struck.Store(true)
			return errorfs.ErrInjected
		}
		return nil
	})
	if f.short {
		return shortFS{f.mem, inject}
	}
	return faultFS{errorfs.Wrap(f.mem, inject)}
}

// shortFS fails writes after half of their bytes.
type shortFS struct {
	vfs.FS
	inject errorfs.InjectorFunc
}

type shortFile struct {
	vfs.File
	fs   shortFS
	name string
}

func (f shortFS) wrap(file vfs.File, name string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return shortFile{file, f, name}, nil
}

func (f shortFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return f.wrap(file, name, err)
}

func (f shortFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	return f.wrap(file, name, err)
}

func (f shortFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(old, name, c)
	return f.wrap(file, name, err)
}

func (f shortFile) Write(b []byte) (int, error) {
	err := f.fs.inject(errorfs.Op{Kind: errorfs.OpFileWrite, Path: f.name})
	if err == nil {
		return f.File.Write(b)
	}
	n, werr := f.File.Write(b[:len(b)/2])
	return n, errors.Join(err, werr)
}

func isSync(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		return true
	}
	return false
}

// isCommit tells whether an operation is on the log's commit log.
func isCommit(op errorfs.Op) bool { return path.Base(path.Dir(op.Path)) == "commit" }

// logFault lets an operation on the log fail and tells whether there was one, and what is wrong.
func logFault(policy wal.Policy, f *fault) (met bool, err error) {
	ctx := context.Background()
	var told, acked atomic.Int64
	clk := &clock{ms: 1_700_000_000_000}
	o := testOptions(f.fs(), clk)
	o.Fsync = policy
	failed := make(chan struct{}, 1)
	o.OnFailure = func(error) {
		if told.Add(1) == 1 {
			failed <- struct{}{}
		}
	}
	o.OnDurable = func(off wal.Offset) { acked.Store(int64(off)) }
	e, err := Open(o)
	if err != nil {
		return false, err
	}
	cl := e.NewClient()
	do(e, cl, "SET", "old", "value")
	if err := e.log.Sync(ctx); err != nil {
		return false, err
	}
	f.armed.Store(true)
	work := newWorkload(5)
	digests := map[wal.Offset][20]byte{}
	var failure error
	for i := range 60 {
		atomic.AddInt64(&clk.ms, 37)
		do(e, cl, work.next()...)
		e.mu.Lock()
		end := e.logEnd
		digests[end] = e.Digest()
		e.mu.Unlock()
		if failure = e.log.Sync(ctx); failure != nil {
			break
		}
		if i%20 == 19 {
			if failure = e.Checkpoint(ctx); failure != nil {
				break
			}
		}
	}
	if failure != nil {
		// Who waits for durability hears of the failure first, then the engine: a write in between is not acknowledged either.
		<-failed
		at, end := acked.Load(), e.log.End()
		switch r := do(e, cl, "SET", "late", "1"); {
		case !strings.HasPrefix(r, "-MISCONF "):
			return true, fmt.Errorf("A2: a write after the failure got %q", r)
		case e.log.End() != end:
			return true, errors.New("A2: a refused write reached the log")
		}
		if r := do(e, cl, "GET", "old"); r != "$5\r\nvalue\r\n" {
			return true, fmt.Errorf("a read after the failure got %q", r)
		}
		if err := e.Checkpoint(ctx); err == nil && e.log.End() > wal.Offset(at) {
			return true, errors.New("S1: a checkpoint went well after the failure")
		}
		if acked.Load() != at || e.log.Durable() != wal.Offset(at) {
			return true, errors.New("A2: durable moved after the failure")
		}
		if told.Load() != 1 {
			return true, fmt.Errorf("OnFailure was called %d times", told.Load())
		}
		if err := e.Close(ctx); err == nil {
			return true, errors.New("Close hides the failure")
		}
	} else if failure = e.Close(ctx); failure != nil && !f.struck.Load() {
		return false, failure
	}

	o.FS, o.OnFailure, o.OnDurable = f.mem.CrashClone(vfs.CrashCloneCfg{}), nil, nil
	if err := Check(ctx, o, func(string) {}); err != nil {
		return f.struck.Load(), err
	}
	if e, err = Open(o); err != nil {
		return f.struck.Load(), err
	}
	end := e.log.End()
	if end < wal.Offset(acked.Load()) {
		return f.struck.Load(), fmt.Errorf("W4: acknowledged up to %d, recovered up to %d", acked.Load(), end)
	}
	if want, ok := digests[end]; ok && want != digestOf(e) {
		return f.struck.Load(), fmt.Errorf("S3: at offset %d the data differs from what was there", end)
	} else if !ok && len(digests) > 0 && f.struck.Load() == (failure == nil) {
		return f.struck.Load(), fmt.Errorf("W2: recovered up to %d, which is no record boundary", end)
	}
	return f.struck.Load(), e.Close(ctx)
}

// A sync that fails, the k-th for k = 0, 1, 2 … until a run has none: nothing is acknowledged any more, writes are refused,
// reads go on, and what was acknowledged is there after a power cut (W4, A2).
func TestErrorAtEverySync(t *testing.T) {
	for _, policy := range []wal.Policy{wal.Always, wal.EverySec} {
		t.Run("fsync="+policyName(policy), func(t *testing.T) {
			t.Parallel()
			for k := int64(0); ; k++ {
				met, err := logFault(policy, &fault{mem: vfs.NewCrashableMem(), k: k,
					hits: func(op errorfs.Op) bool { return isSync(op) && isCommit(op) }})
				require.NoError(t, err, "sync %d fails", k)
				if !met {
					t.Logf("%d syncs", k)
					return
				}
			}
		})
	}
}

// A write of the log that fails, or stops half way, the k-th for k = 0, 1, 2 … until a run has none: as with a sync.
func TestErrorAtEveryLogWrite(t *testing.T) {
	for _, short := range []bool{false, true} {
		for _, policy := range []wal.Policy{wal.Always, wal.EverySec} {
			t.Run(fmt.Sprintf("short=%v/fsync=%s", short, policyName(policy)), func(t *testing.T) {
				t.Parallel()
				for k := int64(0); ; k++ {
					met, err := logFault(policy, &fault{mem: vfs.NewCrashableMem(), k: k, short: short,
						hits: func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite && isCommit(op) }})
					require.NoError(t, err, "write %d fails", k)
					if !met {
						require.Greater(t, k, int64(10))
						t.Logf("%d writes", k)
						return
					}
				}
			})
		}
	}
}

// storeFault lets the k-th write of the snapshot store fail while checkpoints are written.
func storeFault(k int64, short bool) (met bool, err error) {
	ctx := context.Background()
	f := &fault{mem: vfs.NewCrashableMem(), k: k, short: short, hits: func(op errorfs.Op) bool {
		return op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.Contains(op.Path, "snapshot") &&
			!strings.Contains(path.Base(op.Path), "MANIFEST")
	}}
	clk := &clock{ms: 1_700_000_000_000}
	o := testOptions(f.fs(), clk)
	o.batch = 1
	work := newWorkload(6)
	inside := false
	var e *Engine
	var cl *Client
	o.between = func() { // what changes while a checkpoint is under way, and is given back with it
		if inside || work.r.IntN(3) != 0 {
			return
		}
		inside = true
		do(e, cl, work.next()...)
		inside = false
	}
	if e, err = Open(o); err != nil {
		return false, err
	}
	cl = e.NewClient()
	f.armed.Store(true)
	failed := 0
	for i := range 60 {
		atomic.AddInt64(&clk.ms, 37)
		do(e, cl, work.next()...)
		if i%12 != 11 {
			continue
		}
		if err := e.Checkpoint(ctx); err != nil {
			if failed++; !f.struck.Load() || failed > 1 {
				return f.struck.Load(), fmt.Errorf("checkpoint failed %d times: %w", failed, err)
			}
			if msg := e.WriteError(); msg != "" {
				return true, fmt.Errorf("a failed checkpoint made writes be refused: %s", msg)
			}
			do(e, cl, work.next()...)
			if err := e.Checkpoint(ctx); err != nil {
				return true, fmt.Errorf("again: %w", err)
			}
		}
		before := digestOf(e)
		e.UnloadAll()
		if digestOf(e) != before {
			return f.struck.Load(), errors.New("K2: unloading changed the data")
		}
	}
	want := digestOf(e)
	// The write that fails may be one of closing.
	if err := errors.Join(e.log.Sync(ctx), e.Abandon()); err != nil && !errors.Is(err, errorfs.ErrInjected) {
		return f.struck.Load(), err
	}
	o.FS, o.between = f.mem.CrashClone(vfs.CrashCloneCfg{}), nil
	if err := Check(ctx, o, func(string) {}); err != nil {
		return f.struck.Load(), err
	}
	if e, err = Open(o); err != nil {
		return f.struck.Load(), err
	}
	if digestOf(e) != want {
		return f.struck.Load(), errors.New("S3: the data differs after recovery")
	}
	return f.struck.Load(), e.Close(ctx)
}

// A write of the snapshot store that fails, the k-th for k = 0, 1, 2 … until a run has none: the checkpoint is repeated,
// writes go on, nothing is lost (S3, K2).
func TestErrorAtEveryStoreWrite(t *testing.T) {
	for _, short := range []bool{false, true} {
		t.Run(fmt.Sprint("short=", short), func(t *testing.T) {
			t.Parallel()
			for k := int64(0); ; k += stride(2) {
				met, err := storeFault(k, short)
				require.NoError(t, err, "write %d fails", k)
				if !met {
					t.Logf("%d writes", k)
					return
				}
			}
		})
	}
}
