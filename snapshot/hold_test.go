package snapshot

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/wal"
)

// A store that has much to merge is opened with compactions held: none begins, whatever is due, and Pebble's picker, which
// divides by how many there may be, is content. Let go, they begin with the next ingest.
func TestHoldCompactions(t *testing.T) {
	keys := benchKeys(200)
	o := Options{FS: vfs.NewMem(), Dir: "snapshot", Overlap: 1, HoldCompactions: true}
	s := mustOpen(t, o)
	const checkpoints = 6
	for c := range checkpoints {
		benchFill(t, s, wal.Offset(c+1), keys, randomValue)
	}
	require.NoError(t, s.Close())

	s = mustOpen(t, o)
	require.Equal(t, checkpoints, s.Metrics().ReadAmp)
	benchFill(t, s, checkpoints+1, keys, randomValue)
	m := s.Metrics()
	require.Zero(t, m.CompactionsOn)
	require.Equal(t, checkpoints+1, m.ReadAmp)
	s.SetCompactions(1)
	benchFill(t, s, checkpoints+2, keys, randomValue)
	require.Eventually(t, func() bool { return s.Metrics().ReadAmp < checkpoints }, 20*time.Second, time.Millisecond)
	require.NoError(t, s.Close())
}

// So many ingests lie upon each other as Overlap says, and no merge begins; with one more it does.
func TestOverlap(t *testing.T) {
	keys := benchKeys(200)
	const overlap = 12 // and the base below them
	s := mustOpen(t, Options{FS: vfs.NewMem(), Dir: "snapshot", Overlap: overlap})
	for c := range overlap {
		benchFill(t, s, wal.Offset(c+1), keys, randomValue)
	}
	m := s.Metrics()
	require.Zero(t, m.CompactionsOn)
	require.Equal(t, overlap, m.ReadAmp)
	for c := overlap; c < overlap+2; c++ {
		benchFill(t, s, wal.Offset(c+1), keys, randomValue)
	}
	require.Eventually(t, func() bool { return s.Metrics().ReadAmp < overlap }, 20*time.Second, time.Millisecond)
	require.NoError(t, s.Close())
}

// While a pause lasts no compaction begins; the last one that ends lets them begin with the next ingest.
func TestPauseCompactions(t *testing.T) {
	keys := benchKeys(200)
	s := mustOpen(t, Options{FS: vfs.NewMem(), Dir: "snapshot", Overlap: 1})
	first, second := s.PauseCompactions(), s.PauseCompactions()
	const checkpoints = 6
	for c := range checkpoints {
		benchFill(t, s, wal.Offset(c+1), keys, randomValue)
		if c == checkpoints/2 {
			first()
			first()
		}
	}
	m := s.Metrics()
	require.Zero(t, m.CompactionsOn)
	require.Equal(t, checkpoints, m.ReadAmp)
	second()
	benchFill(t, s, checkpoints+1, keys, randomValue)
	require.Eventually(t, func() bool { return s.Metrics().ReadAmp < checkpoints }, 20*time.Second, time.Millisecond)
	require.NoError(t, s.Close())
}

// Only what merges write waits, and no longer than the pause.
func TestPausedFile(t *testing.T) {
	s := mustOpen(t, Options{FS: vfs.NewMem(), Dir: "snapshot"})
	defer s.Close()
	end := s.PauseCompactions()
	fs := pausedFS{s.opts.FS, &s.pause}
	other, err := fs.Create("other", "pebble-manifest")
	require.NoError(t, err)
	_, waits := other.(pausedFile)
	require.False(t, waits)
	require.NoError(t, other.Close())
	merge, err := fs.Create("merge", mergeCategory)
	require.NoError(t, err)
	require.IsType(t, pausedFile{}, merge)
	write := func() {
		n, err := merge.Write([]byte("block"))
		assert.NoError(t, err)
		assert.Equal(t, 5, n)
	}
	s.pause.wait = time.Nanosecond
	write() // goes on during the pause
	s.pause.wait = time.Hour
	done := make(chan struct{})
	go func() { defer close(done); write() }()
	end()
	<-done
	_, over := s.pause.on()
	require.Nil(t, over)
	write()
	s.pause.waits = 0 // of one that lasts, no write waits for long
	end = s.PauseCompactions()
	write()
	require.True(t, s.Metrics().Paused)
	end()
	require.False(t, s.Metrics().Paused)
	require.NoError(t, merge.Close())
	st, err := s.opts.FS.Stat("merge")
	require.NoError(t, err)
	require.EqualValues(t, 20, st.Size())
}

// Pebble calls the writes of a merge what this package believes it does.
func TestMergeCategory(t *testing.T) {
	seen := &categories{FS: vfs.NewMem()}
	keys := benchKeys(200)
	s := mustOpen(t, Options{FS: seen, Dir: "snapshot", Overlap: 1})
	for c := range 6 {
		benchFill(t, s, wal.Offset(c+1), keys, randomValue)
	}
	require.Eventually(t, func() bool { return s.Metrics().ReadAmp < 6 }, 20*time.Second, time.Millisecond)
	require.NoError(t, s.Close())
	require.True(t, seen.merges.Load())
}

// categories is a file system that notes whether a merge has made a file.
type categories struct {
	vfs.FS
	merges atomic.Bool
}

func (c *categories) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if category == mergeCategory {
		c.merges.Store(true)
	}
	return c.FS.Create(name, category)
}
