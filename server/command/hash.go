package command

import (
	"math"
	"strconv"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

var verbHSet = []byte("HSET")

// lookupHash returns the hash of key; nil with ok if there is none, ok=false if WRONGTYPE was replied.
func (c *Ctx) lookupHash(key []byte) (h *keyspace.Hash, o *keyspace.Object, ok bool) {
	if o, ok = c.LookupType(key, keyspace.TypeHash); o == nil {
		return nil, nil, ok
	}
	return o.Hash(), o, true
}

// writeHash makes the hash of key ready to be changed, creating it if o is nil.
func (c *Ctx) writeHash(key []byte, o *keyspace.Object) *keyspace.Hash {
	if o == nil {
		h := keyspace.NewHash(c.KS.Limits())
		c.DB.Put(key, h)
		return h
	}
	c.DB.Touch(o)
	return o.Hash()
}

func cmdHSet(c *Ctx) {
	if created, ok := c.hset(); ok {
		c.W.Int(created)
	}
}

func cmdHMSet(c *Ctx) {
	if _, ok := c.hset(); ok {
		c.W.OK()
	}
}

func (c *Ctx) hset() (created int64, ok bool) {
	if len(c.Args)%2 == 1 {
		c.wrongArity()
		return 0, false
	}
	_, o, ok := c.lookupHash(c.Args[1])
	if !ok {
		return 0, false
	}
	h := c.writeHash(c.Args[1], o)
	for i := 2; i < len(c.Args); i += 2 {
		if h.Set(c.Args[i], c.Args[i+1]) {
			created++
		}
	}
	c.Notify(EventHash, "hset", c.Args[1])
	c.Changed()
	return created, true
}

func cmdHSetNX(c *Ctx) {
	_, o, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	if o != nil {
		if _, exists := c.field(o, c.Args[2]); exists {
			c.W.Int(0)
			return
		}
	}
	c.writeHash(c.Args[1], alive(o)).Set(c.Args[2], c.Args[3])
	c.Notify(EventHash, "hset", c.Args[1])
	c.Changed()
	c.W.Int(1)
}

func cmdHGet(c *Ctx) {
	_, o, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	c.bulkField(o, c.Args[2])
}

func cmdHMGet(c *Ctx) {
	_, o, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	c.W.Array(len(c.Args) - 2)
	for _, f := range c.Args[2:] {
		c.bulkField(o, f)
	}
}

func cmdHGetAll(c *Ctx) {
	h, _, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	if h == nil {
		c.W.Map(0)
		return
	}
	n := c.shown(h)
	all := n == h.Len()
	c.W.Map(n)
	for f, v := range h.All() {
		if !all && c.fieldGone(h, f) {
			continue
		}
		c.W.Bulk(f)
		c.W.Bulk(v)
	}
}

func cmdHKeys(c *Ctx) { c.replyHalf(func(f, _ []byte) []byte { return f }) }
func cmdHVals(c *Ctx) { c.replyHalf(func(_, v []byte) []byte { return v }) }

func (c *Ctx) replyHalf(half func(f, v []byte) []byte) {
	h, _, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	if h == nil {
		c.W.Array(0)
		return
	}
	n := c.shown(h)
	all := n == h.Len()
	c.W.Array(n)
	for f, v := range h.All() {
		if !all && c.fieldGone(h, f) {
			continue
		}
		c.W.Bulk(half(f, v))
	}
}

// cmdHLen counts fields that have expired and are not yet deleted, too, as Redis does.
func cmdHLen(c *Ctx) {
	h, _, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	n := 0
	if h != nil {
		n = h.Len()
	}
	c.W.Int(int64(n))
}

func cmdHStrLen(c *Ctx) {
	_, o, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	var v []byte
	if o != nil {
		v, _ = c.field(o, c.Args[2])
	}
	c.W.Int(int64(len(v)))
}

func cmdHExists(c *Ctx) {
	_, o, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	exists := false
	if o != nil {
		_, exists = c.field(o, c.Args[2])
	}
	c.replyFlag(exists)
}

// replyFlag replies 1 or 0.
func (c *Ctx) replyFlag(yes bool) {
	if yes {
		c.W.Int(1)
	} else {
		c.W.Int(0)
	}
}

func cmdHDel(c *Ctx) {
	h, o, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	deleted := int64(0)
	if h != nil {
		for _, f := range c.Args[2:] {
			if _, exists := h.Get(f); !exists {
				continue
			}
			if deleted == 0 {
				c.DB.Touch(o)
			}
			h.Del(f)
			deleted++
		}
	}
	if deleted > 0 {
		c.Notify(EventHash, "hdel", c.Args[1])
		c.DeleteIfEmpty(o)
		c.Changed()
	}
	c.W.Int(deleted)
}

func cmdHIncrBy(c *Ctx) {
	by, ok := c.ParseInt(c.Args[3])
	if !ok {
		return
	}
	_, o, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	n := int64(0)
	if o != nil {
		if v, exists := c.field(o, c.Args[2]); exists {
			if n, ok = ParseInt(v); !ok {
				c.W.Error(reply.HashNotInt)
				return
			}
		}
	}
	if by < 0 && n < math.MinInt64-by || by > 0 && n > math.MaxInt64-by {
		c.W.Error(reply.IncrOverflow)
		return
	}
	n += by
	var buf [20]byte
	c.writeHash(c.Args[1], alive(o)).SetKeepExpire(c.Args[2], strconv.AppendInt(buf[:0], n, 10))
	c.Notify(EventHash, "hincrby", c.Args[1])
	c.Changed()
	c.W.Int(n)
}

// cmdHIncrByFloat has its sum as its effect, so that a replica with another floating point unit gets the same (D1). HSET takes away
// when the field expires, so that is said again.
func cmdHIncrByFloat(c *Ctx) {
	o := c.Lookup(c.Args[1])
	var old []byte
	if o != nil && o.Type() == keyspace.TypeHash {
		old, _ = c.field(o, c.Args[2])
		o = alive(o)
	}
	sum, ok := c.incrByFloat(old, c.Args[3])
	if !ok {
		return
	}
	// An increment that is no number comes before a wrong type, as in Redis.
	if o != nil && o.Type() != keyspace.TypeHash {
		c.W.Error(reply.WrongType)
		return
	}
	h := c.writeHash(c.Args[1], o)
	h.SetKeepExpire(c.Args[2], sum)
	c.Notify(EventHash, "hincrbyfloat", c.Args[1])
	c.Effect(verbHSet, c.Args[1], c.Args[2], sum)
	if at := h.ExpireAt(c.Args[2]); at != 0 {
		c.expireAtEffect(c.Args[1], at, c.Args[2:3])
	}
	c.W.Bulk(sum)
}

func cmdHRandField(c *Ctx) {
	single, withValues := len(c.Args) == 2, false
	count := int64(1)
	if !single {
		var ok bool
		if _, ok = c.parseWithin(c.Args[2], -math.MaxInt64, math.MaxInt64, ""); !ok {
			return
		}
		if len(c.Args) > 4 || len(c.Args) == 4 && !equalFold(c.Args[3], "withvalues") {
			c.W.Error(reply.Syntax)
			return
		}
		withValues = len(c.Args) == 4
		if count, ok = c.parseRandomCount(c.Args[2], withValues); !ok {
			return
		}
	}
	h, o, ok := c.lookupHash(c.Args[1])
	if h != nil && h.Timed() > 0 {
		c.expireDue(o)
		if h = c.withoutExpired(h); h.Len() == 0 {
			h = nil
		}
	}
	switch {
	case !ok:
	case single && h == nil:
		c.W.Null()
	case single:
		f, _ := h.Random(c.Rand)
		c.W.Bulk(f)
	case h == nil || count == 0:
		c.W.Array(0)
	default:
		n := sampleLen(count, h.Len())
		nested := withValues && c.W.Proto() == 3
		if withValues && !nested {
			n *= 2
		}
		c.W.Array(n)
		p := population[[]byte]{h.Len(), h.All(), func() ([]byte, []byte) { return h.Random(c.Rand) }}
		sample(c.Rand, p, count, func(f, v []byte) {
			if nested {
				c.W.Array(2)
			}
			c.W.Bulk(f)
			if withValues {
				c.W.Bulk(v)
			}
		})
	}
}

// withoutExpired returns h if none of its fields has expired, else a copy of the others. That is the case on a replica only, which
// deletes nothing.
func (c *Ctx) withoutExpired(h *keyspace.Hash) *keyspace.Hash {
	if c.shown(h) == h.Len() {
		return h
	}
	rest := keyspace.NewHash(c.KS.Limits())
	for f, v := range h.All() {
		if !c.fieldGone(h, f) {
			rest.Set(f, v)
		}
	}
	return rest
}

func cmdHScan(c *Ctx) {
	s, ok := c.beginElementScan(keyspace.TypeHash)
	if !ok {
		return
	}
	h := s.o.Hash()
	next := h.Scan(s.cursor, s.count, func(f, v []byte) {
		if s.matches(f) && !c.fieldGone(h, f) {
			c.W.Bulk(f)
			c.W.Bulk(v)
			s.n += 2
		}
	})
	c.endElementScan(s, next)
}
