package command

import (
	"fmt"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot/digest"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// Digest is Redis's DEBUG DIGEST of all data, byte for byte: equal digests mean equal data, here and there.
func Digest(ks *keyspace.Keyspace) [20]byte {
	var total digest.Redis
	for i := range ks.NumDBs() {
		db := ks.DB(i)
		mixed := false
		db.EachValue(func(o *keyspace.Object) {
			if !mixed {
				total.MixDB(uint32(i))
				mixed = true
			}
			var d digest.Redis
			d.Mix([]byte(o.Key()))
			mixValue(&d, o)
			total.Xor(d[:])
		})
	}
	return total
}

// StateDigest covers what Digest leaves out, too: when each key expires, and each field.
func StateDigest(ks *keyspace.Keyspace) [20]byte {
	total := digest.Redis(Digest(ks))
	for i := range ks.NumDBs() {
		db := ks.DB(i)
		db.Each(func(o *keyspace.Object) {
			if at := o.ExpireAt(); at != 0 {
				total.Xor(fmt.Appendf(nil, "%d %d %s", i, at, o.Key()))
			}
		})
		if db.TimedHashes() == 0 {
			continue
		}
		db.EachValue(func(o *keyspace.Object) {
			if o.Type() != keyspace.TypeHash || o.Hash().Timed() == 0 {
				return
			}
			for f := range o.Hash().All() {
				if at := o.Hash().ExpireAt(f); at != 0 {
					total.Xor(fmt.Appendf(nil, "field %d %d %d %s %s", i, at, len(f), f, o.Key()))
				}
			}
		})
	}
	return total
}

// ValueDigest is Redis's DEBUG DIGEST-VALUE of one key.
func ValueDigest(o *keyspace.Object) [20]byte {
	var d digest.Redis
	mixValue(&d, o)
	return d
}

func mixValue(d *digest.Redis, o *keyspace.Object) {
	switch o.Type() {
	case keyspace.TypeString:
		d.MixKind(rdb.KindString)
		d.Mix(o.String())
	case keyspace.TypeList:
		d.MixKind(rdb.KindList)
		for v := range o.List().All() {
			d.Mix(v)
		}
	case keyspace.TypeSet:
		d.MixKind(rdb.KindSet)
		for m := range o.Set().All() {
			d.Xor(m)
		}
	case keyspace.TypeZSet:
		d.MixKind(rdb.KindZSet)
		for m, score := range o.ZSet().All() {
			d.XorMember(m, score)
		}
	case keyspace.TypeHash:
		d.MixKind(rdb.KindHash)
		h := o.Hash()
		for f, v := range h.All() {
			if h.ExpireAt(f) != 0 {
				d.XorTimedField(f, v)
			} else {
				d.XorField(f, v)
			}
		}
	}
	if o.ExpireAt() != 0 {
		d.XorExpire()
	}
}
