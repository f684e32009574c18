package snapshot

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/wal"
)

// crashPlan is one run with one crash in it.
type crashPlan struct {
	seed        uint64
	killAt      int64 // the write before which the machine stops
	unsynced    int   // percentage of what was not synced that survives
	checkpoints int
	mutate      func(*Options)
}

// linkLock keeps links and clones of a MemFS apart: its Link takes a read lock twice, between which a clone that waits for
// the write lock would stop both for good.
type linkLock struct {
	vfs.FS
	mu sync.Mutex
}

func (l *linkLock) Link(oldname, newname string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.FS.Link(oldname, newname)
}

// crashRun ingests random checkpoints on a crashable file system, stops the machine before the k-th write, and opens what
// is left. It reports whether a crash happened and what it violated.
func crashRun(p crashPlan) (crashed bool, err error) {
	mem := vfs.NewCrashableMem()
	var writes, acked, ackedAtCrash atomic.Int64
	var clone atomic.Pointer[vfs.MemFS]
	var armed atomic.Bool
	links := &linkLock{FS: mem}
	fs := errorfs.Wrap(links, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && armed.Load() && writes.Add(1) == p.killAt+1 {
			links.mu.Lock()
			defer links.mu.Unlock()
			ackedAtCrash.Store(acked.Load())
			clone.Store(mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: p.unsynced,
				RNG: rand.New(rand.NewPCG(p.seed, uint64(p.killAt)))}))
		}
		return nil
	}))
	o := testOptions(fs)
	if p.mutate != nil {
		p.mutate(&o)
	}
	armed.Store(true)
	s, err := Open(o)
	if err != nil {
		return false, err
	}
	m := newModel(p.seed, 60)
	for range p.checkpoints {
		m.change(m.r.IntN(60))
		if err := m.checkpoint(s); err != nil {
			return false, errors.Join(err, s.Close())
		}
		acked.Store(int64(m.meta.C))
	}
	if err := s.Close(); err != nil {
		return false, err
	}
	armed.Store(false)
	left := clone.Load()
	if left == nil {
		return false, nil
	}
	return true, recovered(testOptions(left), m, wal.Offset(ackedAtCrash.Load()))
}

// recovered opens what a crash has left: it must stand at one checkpoint, none before acked, with exactly its rows; then it
// goes on working.
func recovered(o Options, m *model, acked wal.Offset) error {
	nothing := func(string) {}
	s, err := Open(o)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	c := s.Meta().C
	want, ok := m.at[c]
	switch {
	case !ok:
		err = fmt.Errorf("S2: the store stands at %d, which was no checkpoint", c)
	case c < acked:
		err = fmt.Errorf("S2: the store stands at %d, the checkpoint at %d had been committed", c, acked)
	default:
		err = compare(s, want)
	}
	if names, lerr := o.FS.List(o.FS.PathJoin(o.Dir, ingestDir)); lerr != nil || len(names) > 0 {
		err = errors.Join(err, fmt.Errorf("left of a cut-off ingest: %v %w", names, lerr))
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("after the crash: %w", err)
	}
	if err := Check(ctx(), o, nothing); err != nil {
		return fmt.Errorf("check after the crash: %w", err)
	}
	if s, err = Open(o); err != nil {
		return fmt.Errorf("second open: %w", err)
	}
	f := m.fork(c)
	for range 3 {
		f.change(20)
		if err := errors.Join(f.checkpoint(s), compare(s, f.rows)); err != nil {
			return errors.Join(fmt.Errorf("checkpoint after the crash: %w", err), s.Close())
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := Check(ctx(), o, nothing); err != nil {
		return fmt.Errorf("check after going on: %w", err)
	}
	return nil
}

// stride thins the loop over all k out; HOLDFAST_CRASH_STRIDE=1 runs them all.
func stride(def int64) int64 {
	if n, err := strconv.ParseInt(os.Getenv("HOLDFAST_CRASH_STRIDE"), 10, 64); err == nil && n > 0 {
		return n
	}
	return def
}

func testSeed() uint64 {
	if s, err := strconv.ParseUint(os.Getenv("HOLDFAST_SEED"), 10, 64); err == nil {
		return s
	}
	return 1
}

// A crash before every k-th write, from the creation of the store to its close, k = 0, 1, 2 … until a run has none.
func TestCrashAtEveryWrite(t *testing.T) {
	n := 0
	for k := int64(0); ; k += stride(3) {
		crashed, err := crashRun(crashPlan{seed: 5, killAt: k, checkpoints: 9})
		require.NoError(t, err, "crash before write %d", k)
		if !crashed {
			break
		}
		n++
	}
	require.Greater(t, n, 20)
	t.Logf("%d crashes", n)
}

// Random cuts, with a part of what was not synced surviving.
func TestCrashRandomCuts(t *testing.T) {
	seed := testSeed()
	r := rand.New(rand.NewPCG(seed, 2))
	n := 0
	for range 60 {
		p := crashPlan{seed: r.Uint64N(1 << 30), killAt: r.Int64N(220), unsynced: 25 * (1 + r.IntN(4)), checkpoints: 9}
		crashed, err := crashRun(p)
		require.NoError(t, err, "HOLDFAST_SEED=%d, plan %+v", seed, p)
		if crashed {
			n++
		}
	}
	require.Greater(t, n, 20)
	t.Logf("%d crashes", n)
}

// The crash test is believed because it fails when a rule is left out.
func TestCrashMutants(t *testing.T) {
	for name, mutate := range map[string]func(*Options){
		"the meta row enters by an ingest of its own": func(o *Options) { o.metaApart = true },
		"tables are not synced":                       func(o *Options) { o.noSync = true },
	} {
		t.Run(name, func(t *testing.T) {
			for k := int64(0); ; k++ {
				crashed, err := crashRun(crashPlan{seed: 5, killAt: k, checkpoints: 9, mutate: mutate})
				if err != nil {
					t.Logf("found with a crash before write %d: %v", k, err)
					return
				}
				require.True(t, crashed, "the mutant was never found")
			}
		})
	}
}

// errorPlan is one run with failing operations in it.
type errorPlan struct {
	seed     uint64
	from, to int64 // operations that fail, counted from 0
	reads    bool  // reads fail, not writes
	err      error
}

// errorRun ingests random checkpoints while operations fail. A checkpoint that fails leaves the store as it was; once
// operations succeed again, so does the next. Where Pebble calls it fatal, the process ends there, and a new one finds the
// store at a checkpoint. It reports whether an operation has failed.
func errorRun(p errorPlan) (failed, fatal bool, err error) {
	mem := vfs.NewCrashableMem()
	var ops, acked atomic.Int64
	var off atomic.Bool
	links := &linkLock{FS: mem}
	fs := errorfs.Wrap(links, errorfs.InjectorFunc(func(op errorfs.Op) error {
		read := op.Kind.ReadOrWrite() == errorfs.OpIsRead
		if off.Load() || read != p.reads {
			return nil
		}
		if k := ops.Add(1) - 1; k < p.from || k >= p.to {
			return nil
		}
		return p.err
	}))
	o := testOptions(fs)
	// The end of the process: this goroutine goes no further. It leaves its store behind, as an ended process does.
	died := make(chan struct{})
	var one atomic.Bool
	o.OnFatal = func(error) {
		if !one.Swap(true) {
			close(died)
		}
		select {}
	}
	m := newModel(p.seed, 60)
	done := make(chan error, 1)
	go func() {
		// Pebble panics where the directory of a manifest's name cannot be synced.
		defer func() {
			if r := recover(); r != nil {
				o.OnFatal(fmt.Errorf("panic: %v", r))
			}
		}()
		done <- errorHistory(o, m, &off, &acked)
	}()
	select {
	case err = <-done:
	case <-died:
		fatal = true
		// The page cache outlives a process.
		links.mu.Lock()
		defer links.mu.Unlock()
		// Where a goroutine of Pebble's met the end, the history goes on a little: what it had acknowledged before the copy is in that, and what is
		// in the copy it had noted before.
		least := wal.Offset(acked.Load())
		o := testOptions(mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(p.seed, 1))}))
		err = recovered(o, m.seen(), least)
	}
	return ops.Load() > p.from, fatal, err
}

// compareAgain compares when no more errors are injected. One that met a compaction as it opened a table goes to all who wait for that table,
// the comparison among them; whoever asks later opens it.
func compareAgain(s *Store, want rows) error {
	err := compare(s, want)
	if errors.Is(err, errorfs.ErrInjected) {
		err = compare(s, want)
	}
	return err
}

func errorHistory(o Options, m *model, off *atomic.Bool, acked *atomic.Int64) error {
	s, err := Open(o)
	if err != nil {
		off.Store(true)
		if s, err = Open(o); err != nil {
			return fmt.Errorf("opening again: %w", err)
		}
	}
	for range 9 {
		m.change(m.r.IntN(60))
		before := m.meta
		if err := m.checkpoint(s); err != nil {
			off.Store(true)
			if got := s.Meta().C; got != before.C {
				return fmt.Errorf("S2: the store stands at %d after a failed checkpoint, it stood at %d", got, before.C)
			}
			if err := compareAgain(s, m.rows); err != nil {
				return fmt.Errorf("after a failed checkpoint: %w", err)
			}
			if err := m.checkpoint(s); err != nil {
				return fmt.Errorf("trying again: %w", err)
			}
			if names, err := o.FS.List(o.FS.PathJoin(o.Dir, ingestDir)); err != nil || len(names) > 0 {
				return fmt.Errorf("left of a failed checkpoint: %v %w", names, err)
			}
		}
		acked.Store(int64(m.meta.C))
	}
	off.Store(true)
	if err := compareAgain(s, m.rows); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	return Check(ctx(), o, func(string) {})
}

// The k-th write fails, k = 0, 1, 2 …: alone, and with all that come after it until somebody looks (a full disk). Then the
// k-th read.
func TestErrorsInjected(t *testing.T) {
	for _, c := range []struct {
		name  string
		burst int64
		reads bool
		err   error
	}{
		{"one write", 1, false, errorfs.ErrInjected},
		{"disk full", 1 << 40, false, syscall.ENOSPC},
		{"one read", 1, true, errorfs.ErrInjected},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			n, fatals := 0, 0
			for k := int64(0); ; k += stride(3) {
				failed, fatal, err := errorRun(errorPlan{seed: 6, from: k, to: k + c.burst, reads: c.reads, err: c.err})
				require.NoError(t, err, "operation %d", k)
				if !failed {
					break
				}
				n++
				if fatal {
					fatals++
				}
			}
			require.Greater(t, n, 20)
			t.Logf("%d errors, %d of them fatal", n, fatals)
		})
	}
}

// The same on a real directory, where tables enter by hard links: all operations stop at the k-th write, as under a kill,
// and a copy of the directory is opened.
func TestCrashOnRealDirectory(t *testing.T) {
	n := 0
	for k := int64(0); ; k += stride(23) {
		dir := t.TempDir()
		var writes, acked atomic.Int64
		stopped := make(chan struct{})
		var ended atomic.Bool
		fs := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || ended.Load() {
				return nil
			}
			if w := writes.Add(1); w == k+1 {
				close(stopped)
				select {}
			} else if w > k+1 {
				select {}
			}
			return nil
		}))
		o := testOptions(fs)
		o.Dir = dir + "/live"
		m := newModel(8, 60)
		done := make(chan error, 1)
		go func() {
			done <- func() error {
				s, err := Open(o)
				if err != nil {
					return err
				}
				for range 6 {
					m.change(60)
					if err := m.checkpoint(s); err != nil {
						return err
					}
					acked.Store(int64(m.meta.C))
				}
				return s.Close()
			}()
		}()
		select {
		case err := <-done:
			ended.Store(true)
			require.NoError(t, err)
			require.Greater(t, n, 5)
			t.Logf("%d crashes", n)
			return
		case <-stopped:
		}
		n++
		at := wal.Offset(acked.Load())
		live := dir + "/live"
		if _, err := os.Stat(live); os.IsNotExist(err) {
			require.NoError(t, os.Mkdir(live, 0o755)) // stopped before anything was there
		}
		require.NoError(t, os.CopyFS(dir+"/left", os.DirFS(live)))
		o = testOptions(vfs.Default)
		o.Dir = dir + "/left"
		require.NoError(t, recovered(o, m, at), "stopped before write %d", k)
	}
}
