package snapshot

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/wal"
)

// Views taken while checkpoints enter show the rows of exactly the C that they say, for as long as they are open (S2).
func TestViewsDuringIngests(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem()))
	m := newModel(9, 100)
	var mu sync.Mutex // of m.at
	stop := make(chan struct{})
	var wg sync.WaitGroup
	errs := make(chan error, 3)
	seen := make(chan wal.Offset, 1<<16)
	for range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs <- func() (err error) {
				var open []*View
				defer func() {
					for _, v := range open {
						err = errors.Join(err, v.Close())
					}
				}()
				for {
					select {
					case <-stop:
						return nil
					default:
					}
					v, err := s.View()
					if err != nil {
						return err
					}
					if open = append(open, v); len(open) > 5 {
						if err := open[0].Close(); err != nil {
							return err
						}
						open = open[1:]
					}
					for _, v := range open { // the older ones again
						mu.Lock()
						want, ok := m.at[v.Meta().C]
						mu.Unlock()
						if !ok {
							return fmt.Errorf("a view at %d, which was no checkpoint", v.Meta().C)
						}
						if err := compare(v, want); err != nil {
							return fmt.Errorf("view at %d: %w", v.Meta().C, err)
						}
					}
					select {
					case seen <- v.Meta().C:
					default:
					}
				}
			}()
		}()
	}
	for i := range 60 {
		m.change(60)
		mu.Lock()
		meta := m.prepare()
		mu.Unlock()
		require.NoError(t, m.enter(s, meta), "checkpoint %d", i)
	}
	close(stop)
	wg.Wait()
	for range 3 {
		require.NoError(t, <-errs)
	}
	require.Positive(t, s.Metrics().Compactions)
	require.NoError(t, s.Close())
}

// A copy stands where the store stood, and goes its own way.
func TestCopy(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	s := mustOpen(t, o)
	m := newModel(4, 100)
	for range 3 {
		m.change(60)
		require.NoError(t, m.checkpoint(s))
	}
	at := m.meta.C
	require.NoError(t, s.Copy("copy"))
	require.Error(t, s.Copy("copy"), "it is there already")
	m.change(60)
	require.NoError(t, m.checkpoint(s))
	require.NoError(t, s.Close())

	o.Dir = "copy"
	mustCheck(t, o)
	c := mustOpen(t, o)
	require.Equal(t, at, c.Meta().C)
	require.NoError(t, compare(c, m.at[at]))
	f := m.fork(at)
	f.change(50)
	require.NoError(t, f.checkpoint(c))
	require.NoError(t, compare(c, f.rows))
	require.NoError(t, c.Close())
	mustCheck(t, o)
}

func TestReadOnly(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	s := mustOpen(t, o)
	m := newModel(4, 100)
	m.change(60)
	require.NoError(t, m.checkpoint(s))
	require.NoError(t, s.Close())
	o.ReadOnly = true
	s = mustOpen(t, o)
	require.NoError(t, compare(s, m.rows))
	_, err := s.NewIngest()
	require.ErrorIs(t, err, ErrReadOnly)
	require.NoError(t, s.Close())
}

// bulk ingests n rows of 100 random bytes.
func bulk(t testing.TB, s *Store, c wal.Offset, n int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	g, err := s.NewIngest()
	require.NoError(t, err)
	var key, val []byte
	for i := range n {
		key = fmt.Appendf(key[:0], "k%08d", i)
		val = val[:0]
		for range 100 {
			val = append(val, byte(r.Uint32()))
		}
		require.NoError(t, g.Set(key, val))
	}
	require.NoError(t, g.Commit(ctx(), Meta{C: c}))
}

// A key that does not exist costs a filter, not a block, in the bottom level too, where Pebble's own Get has none.
func TestFiltersAnswer(t *testing.T) {
	o := Options{FS: vfs.NewMem(), Dir: "snapshot"}
	s := mustOpen(t, o)
	bulk(t, s, 1, 20000, 1)
	levels := s.Metrics().Levels
	require.Positive(t, levels[len(levels)-1].Tables, "the rows are in the bottom level")
	before := s.Metrics()
	const n = 10000
	for i := range n {
		_, ok, err := s.Get(fmt.Appendf(nil, "k%08d-", i))
		require.NoError(t, err)
		require.False(t, ok)
	}
	spared := s.Metrics().FilterHits - before.FilterHits
	require.Greater(t, spared, int64(n*97/100))
	require.NoError(t, s.Close())
}

func TestGetInto(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem()))
	bulk(t, s, 1, 10, 1)
	want, ok, err := s.Get([]byte("k00000003"))
	require.NoError(t, err)
	require.True(t, ok)
	got, ok, err := s.GetInto([]byte("head"), []byte("k00000003"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "head"+string(want), string(got))
	got, ok, err = s.GetInto([]byte("head"), []byte("k3"))
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, "head", string(got))

	it, err := s.NewIter([]byte("k00000002"), []byte("k00000005"))
	require.NoError(t, err)
	require.False(t, it.Valid())
	require.True(t, it.SeekGE([]byte("k00000003")))
	require.True(t, it.Valid())
	require.Equal(t, want, it.Value())
	require.True(t, it.Next())
	require.False(t, it.Next())
	require.NoError(t, it.Err())
	require.NoError(t, it.Close())
	require.NoError(t, s.Close())
}

// A walk over five times what the cache holds leaves most of what is read again and again in it. An LRU would have lost
// all 200 blocks.
func TestScanLeavesCache(t *testing.T) {
	o := Options{FS: vfs.NewMem(), Dir: "snapshot", CacheBytes: 4 << 20, TableBytes: 2 << 20}
	s := mustOpen(t, o)
	bulk(t, s, 1, 200000, 1) // 22 MB
	hot := func() (hits, misses int64) {
		before := s.Metrics()
		for i := 0; i < 200000; i += 1000 { // 200 blocks, 1.6 MB
			_, ok, err := s.Get(fmt.Appendf(nil, "k%08d", i))
			require.NoError(t, err)
			require.True(t, ok)
		}
		after := s.Metrics()
		return after.CacheHits - before.CacheHits, after.CacheMisses - before.CacheMisses
	}
	for range 5 {
		hot()
	}
	_, misses := hot()
	t.Logf("misses before the walk: %d", misses)
	it, err := s.NewIter(nil, nil)
	require.NoError(t, err)
	for ok := it.First(); ok; ok = it.Next() {
	}
	require.NoError(t, it.Close())
	hits, misses := hot()
	t.Logf("after the walk: %d hits, %d misses", hits, misses)
	require.Less(t, misses, int64(120))
	require.NoError(t, s.Close())
}
