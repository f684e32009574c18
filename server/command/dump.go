package command

import (
	"errors"
	"strconv"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// cmdDump serialises the value as RDB of a form that every Redis since 5 restores.
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
	b := builder{limits: c.KS.Limits()}
	decode := rdb.DecodeValue
	if rest, err := decode(typ, payload, &b); err != nil || len(rest) != 0 {
		c.W.Error(reply.BadDumpFormat)
		return
	}
	existed := c.Lookup(key) != nil
	at := ttl
	if ttl != 0 && !absolute {
		at += c.Now
	}
	if at != 0 && at <= c.Now && !c.Replay && !c.ReplicaRole {
		// What is restored has expired already.
		if existed {
			c.DB.Delete(key)
			c.Effect(c.delVerb(), key)
		}
		c.W.OK()
		return
	}
	var o *keyspace.Object
	if b.value == nil {
		o = c.DB.SetString(key, b.str, false)
	} else {
		o = c.DB.Put(key, b.value)
	}
	if at != 0 {
		c.DB.SetExpire(o, at)
	}
	if idle >= 0 {
		c.DB.SetIdle(o, idle)
	}
	var buf [20]byte
	c.Effect([]byte("RESTORE"), key, strconv.AppendInt(buf[:0], at, 10), c.Args[3], []byte("REPLACE"), []byte("ABSTTL"))
	c.W.OK()
}

// builder makes a value of ours from what the RDB decoder finds in any encoding of Redis.
type builder struct {
	limits *keyspace.Limits
	str    []byte
	value  any // a collection; nil for a string
}

var errFieldTTL = errors.New("command: expiry of hash fields is not supported")

func (b *builder) String(v []byte) error {
	b.str = append([]byte{}, v...)
	return nil
}

func (b *builder) Begin(k rdb.Kind, _ int) error {
	switch k {
	case rdb.KindList:
		b.value = keyspace.NewList(b.limits)
	case rdb.KindSet:
		b.value = keyspace.NewSet(b.limits)
	case rdb.KindZSet:
		b.value = keyspace.NewZSet(b.limits)
	case rdb.KindHash:
		b.value = keyspace.NewHash(b.limits)
	default:
		return &rdb.ErrUnsupportedType{}
	}
	return nil
}

func (b *builder) Element(v []byte) error {
	switch c := b.value.(type) {
	case *keyspace.List:
		c.PushRight(v)
	case *keyspace.Set:
		c.Add(v)
	}
	return nil
}

func (b *builder) Field(f, v []byte) error {
	b.value.(*keyspace.Hash).Set(f, v)
	return nil
}

func (b *builder) FieldTTL(f, v []byte, expireMs int64) error {
	if expireMs != 0 {
		return errFieldTTL
	}
	return b.Field(f, v)
}

func (b *builder) Member(m []byte, score float64) error {
	b.value.(*keyspace.ZSet).Set(m, score)
	return nil
}

func (b *builder) End() error { return nil }
