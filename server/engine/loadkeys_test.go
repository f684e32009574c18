package engine

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/keyspace"
)

// Merging the runs finds what stands in more than one of them, with how often, and counts all: what a map finds.
func TestKeySet(t *testing.T) {
	seed := testSeed()
	r := rand.New(rand.NewPCG(seed, 7))
	for round := range 50 {
		s := &keySet{}
		want := map[uint32]map[uint64]int{1: {}, 2: {}}
		total := map[uint32]int64{}
		for range 1 + r.IntN(9) {
			in := &run{keys: s}
			for range r.IntN(200) {
				row := runRow{tag: keyspace.TagMain, phys: 1 + uint32(r.IntN(2)), head: r.Uint64N(1<<uint(1+r.IntN(10))) << (64 - headBits)}
				if r.IntN(20) == 0 {
					row.head |= 1<<64 - 1<<(64-headBits) // the last beginning that there is
				}
				in.rows = append(in.rows, row)
				want[row.phys][row.head>>(64-headBits)]++
				total[row.phys]++
			}
			in.rows = append(in.rows, runRow{tag: keyspace.TagElem, phys: 1}, runRow{tag: keyspace.TagExpire, phys: 2})
			in.sort()
		}
		for phys, heads := range want {
			got := map[uint64]int{}
			var order []uint64
			keys, err := s.repeated(context.Background(), phys, func(head uint64, times int) error {
				got[head] = times
				order = append(order, head)
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, total[phys], keys, "seed %d round %d", seed, round)
			require.True(t, slices.IsSorted(order))
			for head, n := range heads {
				if n < 2 {
					n = 0
				}
				require.Equal(t, n, got[head], "seed %d round %d head %x", seed, round, head)
			}
		}
	}
}

// The rows of a beginning lie within their database, the last beginning's too.
func TestHeadRange(t *testing.T) {
	lo, hi := keyspace.MainRange(3)
	for _, hash := range []uint64{0, 1 << 20, 1<<64 - 1} {
		for _, slot := range []uint16{0, 77, 16383} {
			row := keyspace.AppendMainKey(nil, 3, slot, hash, []byte("k"))
			_, _, head := keyspace.RowPrefix(row)
			from, to := headRange(lo, hi, head>>(64-headBits))
			require.Negative(t, slices.Compare(from, append(row, 0)))
			require.Negative(t, slices.Compare(row, to))
			require.LessOrEqual(t, slices.Compare(to, hi), 0)
			require.GreaterOrEqual(t, slices.Compare(from, lo), 0)
		}
	}
	from, to := headRange(lo, hi, 1<<headBits-1)
	require.Negative(t, slices.Compare(from, to))
	require.Equal(t, hi, to)
}
