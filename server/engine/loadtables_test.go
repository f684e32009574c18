package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/replication"
	"github.com/holdfast-db/holdfast/wal"
)

// tableCopy is what a primary offers, in memory.
type tableCopy struct {
	m     replication.Manifest
	files [][]byte
	sent  atomic.Int64 // bytes, over all loads
}

func (c *tableCopy) size() (n int) {
	for _, f := range c.files {
		n += len(f)
	}
	return n
}

func (c *tableCopy) bytesSent() int { return int(c.sent.Load()) }

// openTables opens a copy as a primary does, the store being at most some bytes of log behind.
func openTables(t testing.TB, e *Engine) *SyncTables {
	s, err := e.OpenTables(context.Background(), e.Checkpoint)
	require.NoError(t, err)
	return s
}

func read(t testing.TB, e *Engine, s *SyncTables) *tableCopy {
	c := &tableCopy{}
	lineage := e.log.Lineage()
	c.m = replication.Manifest{ID: lineage[len(lineage)-1].ID, C: s.C(), Lineage: lineage}
	for _, f := range s.Files() {
		r, err := s.Open(f.Name)
		require.NoError(t, err)
		b := make([]byte, f.Size)
		if f.Size > 0 {
			_, err = r.ReadAt(b, 0)
			require.NoError(t, err)
		}
		require.NoError(t, r.Close())
		c.m.Files = append(c.m.Files, replication.TableFile(f))
		c.files = append(c.files, b)
	}
	return c
}

// copyTables takes what e offers now.
func copyTables(t testing.TB, e *Engine) *tableCopy {
	s := openTables(t, e)
	c := read(t, e, s)
	s.Done()
	s.Close()
	s.Pin.Release()
	return c
}

var errLinkCut = errors.New("the link was cut")

// load takes the copy over as a replica does; the link is cut after so many bytes, negative: never.
func (c *tableCopy) load(e *Engine, cut int) (err error) {
	ctx := context.Background()
	l, err := e.BeginLoad(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Abort())
		}
	}()
	sink, err := l.BeginTables(ctx, &c.m)
	if err != nil {
		return err
	}
	have := make([]int, len(c.files))
	err = sink.Have(ctx, func(i int, size int64, crc uint32) error {
		if b := c.files[i]; size <= int64(len(b)) && crc32.Checksum(b[:size], tableSums) == crc {
			have[i] = int(size)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, b := range c.files {
		if have[i] == len(b) && len(b) > 0 {
			continue
		}
		if err := c.send(sink, i, have[i], &cut); err != nil {
			return err
		}
	}
	if err := sink.Finish(ctx); err != nil {
		return err
	}
	return l.Commit(ctx, c.m.C, l.Lineage())
}

func (c *tableCopy) send(sink replication.TableSink, i, off int, cut *int) error {
	w, err := sink.Create(i, int64(off))
	if err != nil {
		return err
	}
	for b := c.files[i][off:]; len(b) > 0; {
		n := min(len(b), 1000)
		if *cut >= 0 {
			if n = min(n, *cut); n == 0 {
				return errors.Join(errLinkCut, w.Close())
			}
			*cut -= n
		}
		if _, err := w.Write(bytes.Clone(b[:n])); err != nil { // in tests the file system may spoil what was written
			return errors.Join(err, w.Close())
		}
		c.sent.Add(int64(n))
		b = b[n:]
	}
	return w.Close()
}

// Tables replace data and log as they are: the data are the primary's, the log begins at C under its lineage, and all of it is
// there after a restart. The copy is gone when the replica has it.
func TestLoadTables(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	p := filled(t, clk, testSeed(), 1500)
	defer p.Close(ctx)
	s := openTables(t, p)
	c := read(t, p, s)
	do(p, p.NewClient(), "SET", "later", "than the copy")
	require.NoError(t, p.Checkpoint(ctx))

	ro := replicaOptions(vfs.NewMem(), clk)
	r := mustOpen(t, ro)
	r.SetReplica(false)
	do(r, r.NewClient(), "SET", "old", "1")
	r.SetReplica(true)
	require.NoError(t, c.load(r, -1))
	require.Equal(t, c.size(), c.bytesSent())
	id, end, _ := r.Position()
	require.Equal(t, c.m.C, end)
	require.Equal(t, c.m.ID, id)
	require.Equal(t, "$-1\r\n", do(r, r.NewClient(), "GET", "old"))
	require.NoError(t, p.log.Sync(ctx))
	rest, err := logBytes(p, c.m.C)
	require.NoError(t, err)
	n, err := r.ApplyStream(ctx, rest)
	require.NoError(t, err)
	require.Equal(t, len(rest), n)
	require.Equal(t, digestOf(p), digestOf(r))

	names, err := ro.FS.List(ro.Dir)
	require.NoError(t, err)
	require.NotContains(t, names, partialName)
	require.NotContains(t, names, newStoreName)
	require.NoError(t, r.Close(ctx))
	require.NoError(t, Check(ctx, ro, func(string) {}))
	r = mustOpen(t, ro)
	require.Equal(t, digestOf(p), digestOf(r))
	require.NoError(t, r.Close(ctx))

	s.Done()
	s.Close()
	s.Close()
	s.Pin.Release()
	copies, err := p.disk.fs.List(p.path(copiesName))
	require.NoError(t, err)
	require.Empty(t, copies)
	require.Zero(t, len(p.Pins()))
}

// A load of tables that is cut goes on where it was, after restarts of the replica, and of the primary whose store has changed
// meanwhile, too. The old data are there all along.
func TestLoadTablesCut(t *testing.T) {
	ctx := context.Background()
	for _, restart := range []string{"nobody", "replica", "primary", "primary, changed"} {
		t.Run(restart, func(t *testing.T) {
			clk := &clock{ms: 1_700_000_000_000}
			pfs, rfs := vfs.NewMem(), vfs.NewMem()
			po, ro := testOptions(pfs, clk), replicaOptions(rfs, clk)
			p := mustOpen(t, po)
			cl := p.NewClient()
			noise := rand.New(rand.NewPCG(testSeed(), 9))
			value := func() string {
				b := make([]byte, 100)
				for i := range b {
					b[i] = byte(noise.Uint32())
				}
				return string(b)
			}
			for i := range 3000 {
				do(p, cl, "SET", fmt.Sprint("k", i), value())
			}
			r := mustOpen(t, ro)
			r.SetReplica(false)
			do(r, r.NewClient(), "SET", "old", "1")
			r.SetReplica(true)
			sent := 0
			for _, percent := range []int{10, 40, 40} { // of the whole, one after the other
				c := copyTables(t, p)
				err := c.load(r, c.size()*percent/100)
				require.ErrorIs(t, err, errLinkCut)
				sent += c.bytesSent()
				require.Equal(t, "$1\r\n1\r\n", do(r, r.NewClient(), "GET", "old"))
				switch restart {
				case "replica":
					require.NoError(t, r.Close(ctx))
					r = mustOpen(t, ro)
				case "primary, changed":
					do(p, cl, "SET", fmt.Sprint("k", noise.IntN(3000)), "changed")
					fallthrough
				case "primary":
					require.NoError(t, p.Close(ctx))
					p = mustOpen(t, po)
					cl = p.NewClient()
				}
			}
			c := copyTables(t, p)
			require.NoError(t, c.load(r, -1))
			sent += c.bytesSent()
			require.LessOrEqual(t, sent, c.size()*11/10)
			require.Equal(t, digestOf(p), digestOf(r))
			require.NoError(t, r.Close(ctx))
			require.NoError(t, Check(ctx, ro, func(string) {}))
			require.NoError(t, p.Close(ctx))
		})
	}
}

// What another history has left is not offered, and what is damaged is not taken over.
func TestLoadTablesOfAnotherHistory(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	first, second := filled(t, clk, 1, 300), filled(t, clk, 2, 300)
	defer first.Close(ctx)
	defer second.Close(ctx)
	ro := replicaOptions(vfs.NewMem(), clk)
	r := mustOpen(t, ro)
	defer r.Close(ctx)
	a, b := copyTables(t, first), copyTables(t, second)
	require.ErrorIs(t, a.load(r, a.size()/2), errLinkCut)
	require.NoError(t, b.load(r, -1))
	require.Equal(t, b.size(), b.bytesSent(), "nothing of the other was used")
	require.Equal(t, digestOf(second), digestOf(r))

	// A manifest that names what it must not.
	l, err := r.BeginLoad(ctx)
	require.NoError(t, err)
	for _, name := range []string{historyName, lockName} {
		m := b.m
		m.Files = []replication.TableFile{{Name: name, Size: 1}}
		_, err = l.BeginTables(ctx, &m)
		require.ErrorContains(t, err, "cannot be called")
	}
	require.NoError(t, l.Abort())

	// Tables of another offset than was announced, and of databases that are not there.
	l, err = r.BeginLoad(ctx)
	require.NoError(t, err)
	require.ErrorContains(t, loadInto(l, a, a.m.C+1), "stands at offset")
	require.Equal(t, digestOf(second), digestOf(r))
	cl := first.NewClient()
	cl.DB = 9
	do(first, cl, "SET", "k", "v")
	require.NoError(t, first.Checkpoint(ctx))
	few := replicaOptions(vfs.NewMem(), clk)
	few.Databases = 4
	small := mustOpen(t, few)
	defer small.Close(ctx)
	require.ErrorIs(t, copyTables(t, first).load(small, -1), ErrForeignData)
}

// loadInto is load with another offset at the end.
func loadInto(l *Loader, c *tableCopy, off wal.Offset) error {
	ctx := context.Background()
	sink, err := l.BeginTables(ctx, &c.m)
	if err != nil {
		return err
	}
	if err := sink.Have(ctx, func(int, int64, uint32) error { return nil }); err != nil {
		return err
	}
	never := -1
	for i := range c.files {
		if err := c.send(sink, i, 0, &never); err != nil {
			return err
		}
	}
	if err := sink.Finish(ctx); err != nil {
		return err
	}
	return l.Commit(ctx, off, l.Lineage())
}

// One copy serves all who ask meanwhile; it goes when the log behind it is long, or nobody has come back for it.
func TestCopyIsShared(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	p := filled(t, clk, 3, 100)
	defer p.Close(ctx)
	dirs := func() int {
		names, err := p.disk.fs.List(p.path(copiesName))
		require.NoError(t, err)
		return len(names)
	}
	a, b := openTables(t, p), openTables(t, p)
	require.Equal(t, a.C(), b.C())
	require.Equal(t, 1, dirs())
	before := len(p.Pins())

	// Much is written: who comes now gets a copy of its own, while the others go on with theirs.
	cl := p.NewClient()
	for range 20 {
		do(p, cl, "SET", "big", strings.Repeat("x", 1<<20))
	}
	c := openTables(t, p)
	require.Greater(t, c.C(), a.C())
	require.Equal(t, 2, dirs())
	held := read(t, p, a)
	require.NotZero(t, held.size())
	for _, s := range []*SyncTables{a, b} {
		s.Close()
		s.Pin.Release()
	}
	require.Equal(t, 1, dirs(), "nobody offers the old one any more")

	// Cut off: it stays a while.
	c.Close()
	c.Pin.Release()
	require.Equal(t, 1, dirs())
	atomic.AddInt64(&clk.ms, (copyStays - time.Second).Milliseconds())
	p.Tick(ctx)
	require.Equal(t, 1, dirs())
	d := openTables(t, p)
	require.Equal(t, c.C(), d.C(), "it goes on with the same")
	d.Close()
	d.Pin.Release()
	atomic.AddInt64(&clk.ms, copyStays.Milliseconds())
	p.Tick(ctx)
	require.Zero(t, dirs())
	require.Less(t, len(p.Pins()), before)
	require.Zero(t, len(p.Pins()))

	// A copy that cannot be brought up to date is not made; what it does not have cannot be opened.
	_, err := p.OpenTables(ctx, func(context.Context) error { return io.ErrUnexpectedEOF })
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	e := openTables(t, p)
	defer e.Pin.Release()
	defer e.Close()
	_, err = e.Open("no such file")
	require.Error(t, err)
}

// Copies that a crash has left are deleted by the next start, and one that waits for a replica by the end.
func TestCopiesEnd(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	o := testOptions(vfs.NewMem(), clk)
	p := mustOpen(t, o)
	do(p, p.NewClient(), "SET", "k", "v")
	dir := p.path(copiesName)
	copies := func() int {
		names, err := o.FS.List(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return 0
		}
		require.NoError(t, err)
		return len(names)
	}
	openTables(t, p)
	require.NoError(t, p.Abandon())
	require.Equal(t, 1, copies())
	p = mustOpen(t, o)
	require.Zero(t, copies())
	s := openTables(t, p)
	s.Close()
	s.Pin.Release()
	require.Equal(t, 1, copies())
	require.NoError(t, p.Close(ctx))
	require.Zero(t, copies())
}
