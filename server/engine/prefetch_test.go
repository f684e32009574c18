package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/snapshot"
)

// layeredStore returns a store of n rows at even places, upon which layers lie that each replace some rows and delete others.
func layeredStore(t testing.TB, n, layers int, val []byte) *snapshot.Store {
	s, err := snapshot.Open(snapshot.Options{FS: vfs.NewMem(), Dir: "s", HoldCompactions: true})
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(1, 2))
	for layer := range layers + 1 {
		ing, err := s.NewIngest()
		require.NoError(t, err)
		if layer > 0 {
			from := r.IntN(2 * n)
			require.NoError(t, ing.DeleteRange(placeKey(from), placeKey(from+n/50)))
		}
		for i := range n {
			if layer > 0 && r.IntN(10) > 0 {
				continue
			}
			if layer > 0 && r.IntN(4) == 0 {
				require.NoError(t, ing.Delete(placeKey(2*i)))
			} else {
				require.NoError(t, ing.Set(placeKey(2*i), append(val, fmt.Sprint(layer, i)...)))
			}
		}
		require.NoError(t, ing.Commit(context.Background(), snapshot.Meta{C: 0, NextOID: 1}))
	}
	return s
}

// placeKey is the key of a row: behind the store's own, see snapshot.
func placeKey(i int) []byte { return binary.BigEndian.AppendUint64([]byte{'m'}, uint64(i)) }

// However dense rows lie that are read in their order, each is what a read by itself finds: replaced, deleted, or never there.
func TestWalkStore(t *testing.T) {
	const n = 20_000
	s := layeredStore(t, n, 6, nil)
	rows := rowStore{gate: newStoreGate(s)}
	r := rand.New(rand.NewPCG(3, 4))
	steps, exact := 0, 0
	for _, density := range []int{1, 3, 12, 100, 1000} {
		w := walkStore{rowStore: rows}
		for i := 0; i < 2*n+100; i += 1 + r.IntN(2*density) {
			if i%5000 == 0 {
				density = max(1, 300/density) // dense and sparse by turns: both ways lead to the other
			}
			key := placeKey(i)
			want, there, err := rows.Get(key)
			require.NoError(t, err)
			got, ok, err := w.Get(key)
			require.NoError(t, err)
			require.Equal(t, there, ok, "row %d", i)
			require.Equal(t, string(want), string(got), "row %d", i)
			if w.exact {
				exact++
			} else {
				steps++
			}
		}
		w.close()
	}
	require.NotZero(t, steps)
	require.NotZero(t, exact)
	require.NoError(t, s.Close())
}

// Reading rows in their order, one of so many, from a store with some checkpoints upon it.
func BenchmarkWalkStore(b *testing.B) {
	const n = 300_000
	s := layeredStore(b, n, 8, make([]byte, 100))
	rows := rowStore{gate: newStoreGate(s)}
	for _, every := range []int{1, 4, 16, 100, 1000} {
		b.Run(fmt.Sprintf("every=%d", every), func(b *testing.B) {
			w := walkStore{rowStore: rows}
			for i := 0; b.Loop(); i += every {
				if i >= n {
					w.close()
					w, i = walkStore{rowStore: rows}, 0
				}
				if _, _, err := w.Get(placeKey(2 * i)); err != nil {
					b.Fatal(err)
				}
			}
			w.close()
		})
	}
	require.NoError(b, s.Close())
}
