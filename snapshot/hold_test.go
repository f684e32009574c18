package snapshot

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
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
