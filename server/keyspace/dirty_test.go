package keyspace

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// takeRows takes the rows of objs as a checkpoint does: nil stands for a deletion.
func takeRows(d *HandedDB, objs []*Object, into map[string][]byte) {
	sink := &RowSink{
		Main: func(key, val []byte) {
			if val != nil {
				val = append([]byte{}, val...)
			}
			into[string(key)] = val
		},
		Shared: func(key, head, val []byte) { into[string(key)] = append(append([]byte{}, head...), val...) },
		Expire: func(_, _ []byte) {},
		Big:    func(uint64, *BigRows) {},
	}
	var scratch []byte
	for len(objs) > 0 {
		objs = objs[d.Visit(objs, sink, &scratch, func() bool { return false }):]
	}
}

// A frozen row is kept until it is taken and no longer, and what changes afterwards is not frozen at all, but for the few whose
// settling needs more than that they were there. Settled or given back, nothing is left.
func TestFrozenRowsGoWhenTaken(t *testing.T) {
	const n = 300
	name := func(i int) []byte { return fmt.Appendf(nil, "key:%d", i) }
	for _, settle := range []bool{true, false} {
		ks := New(1, ptr(DefaultLimits()), nil)
		db := ks.DB(0)
		large := make([]byte, sharedFreezeMin)
		value := func(i int) []byte {
			if i%10 == 7 {
				return large
			}
			return fmt.Appendf(nil, "value %d, as long as need be: %0*d", i, i%90, i)
		}
		for i := range n {
			db.SetString(name(i), value(i), false)
			if i%10 == 8 {
				db.SetExpire(db.Get(name(i)), 1<<41)
			}
		}
		h := ks.HandOver()
		d := &h.DBs[0]
		d.Sort()
		want := map[string][]byte{}
		for _, o := range d.Objects {
			want[string(AppendMainKey(nil, d.Phys, o.slot, o.hash, []byte(o.key)))] = appendRow(nil, o)
		}
		change := func(o *Object) {
			if o.n%3 == 0 {
				db.DeleteObject(o)
				return
			}
			db.SetString([]byte(o.key), []byte("new"), false)
		}
		timed := func(objs []*Object) (k int) {
			for _, o := range objs {
				if o.ExpireAt() != 0 {
					k++
				}
			}
			return k
		}
		first, second := d.Objects[:n/2], d.Objects[n/2:]
		kept := timed(d.Objects)
		require.NotZero(t, kept)
		got := map[string][]byte{}
		takeRows(d, first, got)
		require.Zero(t, ks.Frozen())
		k := timed(first)
		for _, o := range d.Objects {
			change(o)
		}
		require.Equal(t, len(second)+k, ks.Frozen(), "of those that are taken, only what expires")
		require.EqualValues(t, len(second), ks.FreezeStats.Objects)
		takeRows(d, second, got)
		require.Equal(t, kept, ks.Frozen())
		require.Equal(t, want, got) // K4

		if settle {
			ks.BeginSettle()
			d.Settle(h, d.Objects, func() bool { return false })
			ks.EndCheckpoint()
		} else {
			d.GiveBack(h, d.Objects)
			ks.EndGiveBack(h)
		}
		require.Zero(t, ks.Frozen())
		for _, o := range d.Objects {
			require.Zero(t, o.flags&(flagVisited|flagFrozen|flagPlain), "%q", o.key)
			require.Equal(t, settle, o.flags&flagInStore != 0, "%q", o.key)
			require.Equal(t, ks.epoch, o.epoch, "%q is dirty", o.key)
		}
		_, dirty := ks.Dirty()
		require.EqualValues(t, n, dirty)
	}
}

// A frozen string has the room that it needs at once.
func TestStringRowLen(t *testing.T) {
	ks := New(1, ptr(DefaultLimits()), nil)
	db := ks.DB(0)
	for _, n := range []int{0, 1, 63, 64, 100, 16383, 16384, sharedFreezeMin - 1} {
		o := db.SetString([]byte("k"), make([]byte, n), false)
		for _, at := range []int64{0, 1 << 41} {
			db.SetExpire(o, at)
			require.Equal(t, len(appendRow(nil, o)), stringRowLen(o), "%d bytes", n)
		}
	}
}
