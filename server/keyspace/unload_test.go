package keyspace

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// clean makes a resident key what a checkpoint leaves behind.
func clean(o *Object) {
	o.epoch = 0
	o.flags |= flagInStore
}

// listed checks that the list of large objects has those that are resident, and no other.
func listed(t *testing.T, ks *Keyspace) {
	want := 0
	for _, db := range ks.dbs {
		var w walker
		for w.seek(&db.t, 0); w.peek() != nil; w.next() {
			if o := w.peek(); o.size >= bigObject {
				want++
				i, ok := ks.bigs.at[o]
				require.True(t, ok, "%q is not listed", o.key)
				require.Equal(t, bigEntry{db, o}, ks.bigs.list[i])
			}
		}
	}
	require.Len(t, ks.bigs.list, want)
	require.Len(t, ks.bigs.at, want)
}

func TestLargeObjectsAreListed(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, 1))
	ks := New(3, ptr(DefaultLimits()), nil)
	for range 800 {
		db := ks.DB(r.IntN(3))
		key := []byte(fmt.Sprint("k", r.IntN(40)))
		switch r.IntN(8) {
		case 0, 1, 2:
			o := db.SetString(key, make([]byte, r.IntN(200<<10)), false)
			if r.IntN(2) == 0 {
				clean(o)
			}
		case 3:
			if o := db.Get(key); o != nil {
				db.DeleteObject(o)
			}
		case 4:
			if o := db.Get(key); o != nil && o.unloadable() {
				db.unload(o)
				db.cold = 0 // there is no store to ask
			}
		case 5:
			h := NewHash(ks.Limits())
			for i := range r.IntN(2500) {
				h.Set(fmt.Append(nil, i), []byte("some value"))
			}
			db.Put(key, h)
		case 6:
			if r.IntN(20) == 0 {
				ks.FlushDB(r.IntN(3))
			}
		case 7:
			ks.SwapDB(r.IntN(3), r.IntN(3))
		}
		ks.AfterCommand()
		listed(t, ks)
	}
}

func ptr[T any](v T) *T { return &v }

// Among thousands of keys the few large ones leave when they have been idle for as long; one that is in use stays; small ones
// that nobody has used for a long time go before large ones that somebody has used just now.
func TestWhatLeavesFirst(t *testing.T) {
	const small, large = 20000, 20
	r := rand.New(rand.NewPCG(3, 1))
	fill := func(idleSmall, idleLarge uint32) *Keyspace {
		ks := New(1, ptr(DefaultLimits()), nil)
		db := ks.DB(0)
		ks.Clock = 100_000
		for i := range small {
			o := db.SetString(fmt.Append(nil, "small", i), bytes.Repeat([]byte("x"), 100), false)
			clean(o)
			o.lru = ks.Clock - idleSmall
		}
		for i := range large {
			o := db.SetString(fmt.Append(nil, "large", i), make([]byte, 1<<20), false)
			clean(o)
			o.lru = ks.Clock - idleLarge
		}
		return ks
	}
	count := func(ks *Keyspace) (smalls, larges int) {
		larges = len(ks.bigs.list)
		return ks.DB(0).live - larges, larges
	}

	ks := fill(100, 100)
	ks.Unload(r, ks.Used()-10<<20, 1<<20)
	s, l := count(ks)
	require.Equal(t, large-10, l, "ten of the large ones make room")
	require.Equal(t, small, s)

	ks = fill(10_000, 1)
	ks.Unload(r, ks.Used()-1<<20, 1<<20)
	s, l = count(ks)
	require.Equal(t, large, l)
	require.Less(t, s, small-2000)
}
