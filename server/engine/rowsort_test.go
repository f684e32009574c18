package engine

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/keyspace"
)

// randomRun is a run of n rows as files bring them: of some databases, main rows spread evenly or all in a few slots, expiry rows
// within a second or at the ends of time, rows of big collections in their order or not, and some keys twice. The value is the row's number.
func randomRun(r *rand.Rand, n int) *run {
	in := &run{keys: &keySet{}}
	slots, dbs, oids := 1+r.IntN(1<<uint(r.IntN(15))), 1+r.IntN(4), 1+r.IntN(3)
	ends := r.IntN(4) == 0
	for i := range n {
		phys := 1 + uint32(r.IntN(dbs))
		name := binary.AppendUvarint(nil, uint64(r.IntN(4*n)))
		slot, hash := uint16(r.IntN(slots)), r.Uint64()
		if ends {
			hash = []uint64{0, 1, math.MaxUint64}[r.IntN(3)]
		}
		var key []byte
		switch r.IntN(4) {
		case 0:
			at := int64(1_700_000_000_000 + r.IntN(1000))
			if ends {
				at = []int64{0, 1, math.MaxInt64}[r.IntN(3)]
			}
			key = keyspace.AppendExpireKey(nil, phys, at, slot, hash, name)
		case 1:
			key = keyspace.AppendElemKey(nil, phys, uint64(r.IntN(oids)), binary.BigEndian.AppendUint32(nil, uint32(i)))
		default:
			key = keyspace.AppendMainKey(nil, phys, slot, hash, name)
		}
		if i > 0 && r.IntN(50) == 0 {
			last := in.rows[i-1]
			key = slices.Clone(in.buf[last.start:last.key])
		}
		in.put(key, binary.BigEndian.AppendUint32(nil, uint32(i)))
	}
	return in
}

// Rows are sorted as their keys compare, whatever they are, and none is lost or changed.
func TestSortRows(t *testing.T) {
	seed := testSeed()
	r := rand.New(rand.NewPCG(seed, 11))
	sizes := []int{0, 1, 2, sortLeaf, sortLeaf + 1, 300, 5000}
	for round := range 200 {
		in := randomRun(r, sizes[round%len(sizes)])
		if r.IntN(4) == 0 { // sorted already
			sortRows(in.buf, in.rows)
		}
		want := slices.Clone(in.rows)
		key := func(row runRow) []byte { return in.buf[row.start:row.key] }
		sortRows(in.buf, in.rows)
		require.True(t, slices.IsSortedFunc(in.rows, func(a, b runRow) int { return slices.Compare(key(a), key(b)) }), "seed %d round %d", seed, round)
		byStart := func(a, b runRow) int { return int(a.start) - int(b.start) }
		got := slices.Clone(in.rows)
		slices.SortFunc(got, byStart)
		slices.SortFunc(want, byStart)
		require.Equal(t, want, got, "seed %d round %d", seed, round)
	}
}
