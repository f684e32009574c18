package command

import (
	"strconv"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// cmdDump serialises the value as RDB of a form that every Redis since 5 restores, since 7.4 if fields of a hash expire.
func cmdDump(c *Ctx) {
	o := c.Lookup(c.Args[1])
	if o == nil {
		c.W.Null()
		return
	}
	c.W.Bulk(rdb.AppendDump(nil, o.AppendValue(nil)))
}

func cmdRestore(c *Ctx) {
	var replace, absolute bool
	idle, freq := int64(-1), int64(-1)
	for i := 4; i < len(c.Args); i++ {
		left := len(c.Args) - i - 1
		var ok bool
		switch opt := c.Args[i]; {
		case equalFold(opt, "replace"):
			replace = true
		case equalFold(opt, "absttl"):
			absolute = true
		case equalFold(opt, "idletime") && left >= 1 && freq == -1:
			i++
			if idle, ok = c.ParseInt(c.Args[i]); !ok {
				return
			}
			if idle < 0 {
				c.W.Error(reply.InvalidIdleTime)
				return
			}
		case equalFold(opt, "freq") && left >= 1 && idle == -1:
			i++
			if freq, ok = c.ParseInt(c.Args[i]); !ok {
				return
			}
			if freq < 0 || freq > 255 {
				c.W.Error(reply.InvalidFreq)
				return
			}
		default:
			c.W.Error(reply.Syntax)
			return
		}
	}
	key := c.Args[1]
	if !replace && c.Lookup(key) != nil {
		c.W.Error(reply.BusyKey)
		return
	}
	ttl, ok := c.ParseInt(c.Args[2])
	if !ok {
		return
	}
	if ttl < 0 {
		c.W.Error(reply.InvalidTTL)
		return
	}
	typ, payload, err := rdb.VerifyDump(c.Args[3])
	if err != nil {
		c.W.Error(reply.BadDumpPayload)
		return
	}
	if !c.Replay {
		c.KS.Verified++
	}
	b := ValueBuilder{Limits: c.KS.Limits()}
	decode := rdb.DecodeValue
	if rest, err := decode(typ, payload, &b); err != nil || len(rest) != 0 {
		c.W.Error(reply.BadDumpFormat)
		return
	}
	old := c.DB.Get(key) // with REPLACE one that has expired is replaced, too
	at := ttl
	if ttl != 0 && !absolute {
		at += c.Now
	}
	if at != 0 && at <= c.Now && !c.Replay && !c.ReplicaRole {
		// What is restored has expired already.
		if old != nil {
			c.deleteObject(old)
			c.Effect(c.delVerb(), key)
		}
		c.W.OK()
		return
	}
	var o *keyspace.Object
	if b.Collection == nil {
		o = c.DB.SetString(key, b.Str, false)
	} else {
		o = c.DB.Put(key, b.Collection)
	}
	if at != 0 {
		c.DB.SetExpire(o, at)
	}
	if idle >= 0 {
		c.DB.SetIdle(o, idle)
	}
	if old != nil {
		c.Notify(EventNew, "new", key) // Redis deletes it first
	}
	c.Notify(EventGeneric, "restore", key)
	var buf [20]byte
	c.Effect([]byte("RESTORE"), key, strconv.AppendInt(buf[:0], at, 10), c.Args[3], []byte("REPLACE"), []byte("ABSTTL"))
	c.W.OK()
}

// ValueBuilder makes a value of ours from what the RDB decoder finds in any encoding of Redis: it is an rdb.Sink. Limits must
// be set; Str is used again for the next string.
type ValueBuilder struct {
	Limits     *keyspace.Limits
	Str        []byte // the value if Collection is nil
	Collection any    // a *keyspace.List, *keyspace.Set, *keyspace.ZSet or *keyspace.Hash; nil for a string
}

// String takes a string.
func (b *ValueBuilder) String(v []byte) error {
	b.Str, b.Collection = append(b.Str[:0], v...), nil
	return nil
}

// Begin begins a collection.
func (b *ValueBuilder) Begin(k rdb.Kind, _ int) error {
	switch k {
	case rdb.KindList:
		b.Collection = keyspace.NewList(b.Limits)
	case rdb.KindSet:
		b.Collection = keyspace.NewSet(b.Limits)
	case rdb.KindZSet:
		b.Collection = keyspace.NewZSet(b.Limits)
	case rdb.KindHash:
		b.Collection = keyspace.NewHash(b.Limits)
	default:
		return &rdb.ErrUnsupportedType{}
	}
	return nil
}

// Element adds to a list or set.
func (b *ValueBuilder) Element(v []byte) error {
	switch c := b.Collection.(type) {
	case *keyspace.List:
		c.PushRight(v)
	case *keyspace.Set:
		c.Add(v)
	}
	return nil
}

// Field adds to a hash.
func (b *ValueBuilder) Field(f, v []byte) error {
	b.Collection.(*keyspace.Hash).Set(f, v)
	return nil
}

// FieldTTL adds a field that expires to a hash.
func (b *ValueBuilder) FieldTTL(f, v []byte, expireMs int64) error {
	h := b.Collection.(*keyspace.Hash)
	h.Set(f, v)
	h.SetExpire(f, expireMs)
	return nil
}

// Member adds to a sorted set.
func (b *ValueBuilder) Member(m []byte, score float64) error {
	b.Collection.(*keyspace.ZSet).Set(m, score)
	return nil
}

// End ends a collection.
func (b *ValueBuilder) End() error { return nil }
