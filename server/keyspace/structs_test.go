package keyspace

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// checkpointed mirrors a collection in a store of rows through the tracker's protocol, with a full copy at each
// hand-over as the model of what the checkpoint must yield (K4).
type checkpointed struct {
	store, want map[string]string
	subs        []string
}

func rowsOf(c collection) map[string]string {
	rows := map[string]string{}
	add := func(sub string) {
		if v, ok := c.row(sub); ok {
			rows[sub] = string(v)
		}
	}
	switch c := c.(type) {
	case *Hash:
		c.d.all(func(b blk) bool { add(string(b.key())); return true })
	case *Set:
		c.d.all(func(b blk) bool { add(string(b.key())); return true })
	case *ZSet:
		c.d.all(func(b blk) bool { add(string(b.key())); return true })
	case *List:
		for _, r := range c.nodes() {
			add(nodeSub(r.id))
		}
	}
	return rows
}

func (k *checkpointed) step(t *testing.T, r *rand.Rand, c collection) {
	if !c.Big() {
		return
	}
	switch {
	case k.want == nil && r.IntN(20) == 0:
		k.want = rowsOf(c)
		c.handover()
		k.subs = slices.Clone(c.handedSubs())
	case k.want != nil && len(k.subs) > 0:
		for range min(len(k.subs), 40) {
			sub := k.subs[0]
			k.subs = k.subs[1:]
			if v, ok := c.handedRow(sub); ok {
				k.store[sub] = string(v)
			} else {
				delete(k.store, sub)
			}
		}
		if r.IntN(60) == 0 {
			c.giveBack()
			k.want = nil
		}
	case k.want != nil:
		require.True(t, maps.Equal(k.want, k.store), "rows at hand-over")
		c.settle()
		k.want = nil
	}
}

func TestModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			lim := DefaultLimits()
			space := []int{40, 300, 5000}[seed%3]
			h, s, z, l := NewHash(&lim), NewSet(&lim), NewZSet(&lim), NewList(&lim)
			mh, ms, mz := map[string]string{}, map[string]bool{}, map[string]float64{}
			var ml []string
			var ks [4]checkpointed
			for i := range ks {
				ks[i].store = map[string]string{}
			}
			text := func() []byte { return []byte(fmt.Sprintf("%0*d", r.IntN(30), r.IntN(1000))) }
			for i := range 12000 {
				m := []byte(fmt.Sprint(r.IntN(space)))
				if i > 6000 && i < 9000 || r.IntN(3) == 0 {
					_, ok := mh[string(m)]
					require.Equal(t, ok, h.Del(m))
					delete(mh, string(m))
					require.Equal(t, ms[string(m)], s.Remove(m))
					delete(ms, string(m))
					_, ok = mz[string(m)]
					require.Equal(t, ok, z.Remove(m))
					delete(mz, string(m))
				} else {
					v := text()
					_, ok := mh[string(m)]
					require.Equal(t, !ok, h.Set(m, v))
					mh[string(m)] = string(v)
					require.Equal(t, !ms[string(m)], s.Add(m))
					ms[string(m)] = true
					sc := float64(r.IntN(50))
					_, ok = mz[string(m)]
					created, _ := z.Set(m, sc)
					require.Equal(t, !ok, created)
					mz[string(m)] = sc
				}
				v := text()
				switch op := r.IntN(12); {
				case op < 3:
					l.PushLeft(v)
					ml = slices.Insert(ml, 0, string(v))
				case op < 6:
					l.PushRight(v)
					ml = append(ml, string(v))
				case op < 7:
					at := r.IntN(len(ml) + 1)
					l.InsertAt(at, v)
					ml = slices.Insert(ml, at, string(v))
				case len(ml) == 0:
				case op < 8:
					require.Equal(t, ml[0], string(l.PopLeft()))
					ml = ml[1:]
				case op < 9:
					require.Equal(t, ml[len(ml)-1], string(l.PopRight()))
					ml = ml[:len(ml)-1]
				case op < 11:
					at := r.IntN(len(ml))
					require.True(t, l.SetAt(at, v))
					ml[at] = string(v)
					got, _ := l.At(at)
					require.Equal(t, string(v), string(got))
				default:
					at, n := r.IntN(len(ml)), 1+r.IntN(3)
					if i%997 == 0 {
						n = r.IntN(600)
					}
					l.RemoveRange(at, n)
					ml = slices.Delete(ml, at, min(len(ml), at+n))
				}
				for k, c := range []collection{h, s, z, l} {
					ks[k].step(t, r, c)
				}
				if i%499 == 0 {
					compareModels(t, r, h, s, z, l, mh, ms, mz, ml)
				}
			}
			for _, c := range []collection{h, s, z, l} {
				reload(t, &lim, c)
			}
		})
	}
}

func compareModels(t *testing.T, r *rand.Rand, h *Hash, s *Set, z *ZSet, l *List, mh map[string]string, ms map[string]bool, mz map[string]float64, ml []string) {
	gh := map[string]string{}
	for c := uint64(0); ; {
		if c = h.Scan(c, 7, func(f, v []byte) { gh[string(f)] = string(v) }); c == 0 {
			break
		}
	}
	require.True(t, maps.Equal(mh, gh))
	gs := map[string]bool{}
	for m := range s.All() {
		gs[string(m)] = true
	}
	require.True(t, maps.Equal(ms, gs))
	want := slices.SortedFunc(maps.Keys(mz), func(a, b string) int { return compareItems(zitem{mz[a], a}, zitem{mz[b], b}) })
	var got []string
	for m, sc := range z.All() {
		require.Equal(t, mz[string(m)], sc)
		got = append(got, string(m))
	}
	require.True(t, slices.Equal(want, got))
	for i, m := range want {
		rank, _, ok := z.Rank([]byte(m))
		require.True(t, ok)
		require.Equal(t, i, rank)
	}
	rg := ScoreRange{Min: 10, Max: 20, MinEx: r.IntN(2) == 0}
	n := 0
	for _, sc := range mz {
		if rg.reached(sc) && !rg.passed(sc) {
			n++
		}
	}
	require.Equal(t, n, z.CountScore(rg))
	var gl, rl []string
	for v := range l.All() {
		gl = append(gl, string(v))
	}
	for v := range l.RangeRev(l.Len()-1, 0) {
		rl = append(rl, string(v))
	}
	slices.Reverse(rl)
	require.True(t, slices.Equal(ml, gl))
	require.True(t, slices.Equal(ml, rl))
	require.Equal(t, len(ml), l.Len())
}

// reload brings a collection through its rows, or its one row, and compares.
func reload(t *testing.T, lim *Limits, c collection) {
	if c.Len() == 0 {
		return
	}
	typ := map[bool]Type{}
	switch c.(type) {
	case *Hash:
		typ[true] = TypeHash
	case *Set:
		typ[true] = TypeSet
	case *ZSet:
		typ[true] = TypeZSet
	case *List:
		typ[true] = TypeList
	}
	value := c.AppendValue(nil)
	d, err := DecodeSmall(typ[true], c.Encoding(), lim, value)
	require.NoError(t, err)
	require.Equal(t, value, d.AppendValue(nil))
	require.Equal(t, c.Encoding(), d.Encoding())
	if c.Big() {
		rows := rowsOf(c)
		d = newCollection(typ[true], lim, true, c.Encoding())
		for _, sub := range slices.Sorted(maps.Keys(rows)) {
			require.NoError(t, d.loadRow([]byte(sub), []byte(rows[sub])))
		}
		require.Equal(t, value, d.AppendValue(nil))
	}
}
