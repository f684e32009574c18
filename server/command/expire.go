package command

import (
	"fmt"
	"math"
	"strconv"

	"github.com/holdfast-db/holdfast/server/reply"
)

func cmdExpire(c *Ctx)    { c.expireAt(1000, false) }
func cmdPExpire(c *Ctx)   { c.expireAt(1, false) }
func cmdExpireAt(c *Ctx)  { c.expireAt(1000, true) }
func cmdPExpireAt(c *Ctx) { c.expireAt(1, true) }

// expireAt is the EXPIRE family. The effect is always PEXPIREAT, or a deletion if the time has passed (D1).
func (c *Ctx) expireAt(unit int64, absolute bool) {
	key := c.Args[1]
	var nx, xx, gt, lt bool
	for _, opt := range c.Args[3:] {
		switch {
		case equalFold(opt, "nx"):
			nx = true
		case equalFold(opt, "xx"):
			xx = true
		case equalFold(opt, "gt"):
			gt = true
		case equalFold(opt, "lt"):
			lt = true
		default:
			c.W.Error(fmt.Sprintf(reply.UnsupportedOptionF, opt))
			return
		}
	}
	if nx && (xx || gt || lt) {
		c.W.Error(reply.ExpireNXWithOther)
		return
	}
	if gt && lt {
		c.W.Error(reply.ExpireGTWithLT)
		return
	}
	at, ok := c.ParseInt(c.Args[2])
	if !ok {
		return
	}
	if unit == 1000 && (at > math.MaxInt64/1000 || at < math.MinInt64/1000) {
		c.W.Error(fmt.Sprintf(reply.InvalidExpireF, c.Spec.FullName))
		return
	}
	at *= unit
	if !absolute {
		if at > math.MaxInt64-c.Now {
			c.W.Error(fmt.Sprintf(reply.InvalidExpireF, c.Spec.FullName))
			return
		}
		at += c.Now
	}
	o := c.Lookup(key)
	if o == nil {
		c.W.Int(0)
		return
	}
	current := o.ExpireAt()
	if nx && current != 0 || xx && current == 0 ||
		gt && (current == 0 || at <= current) || lt && current != 0 && at >= current {
		c.W.Int(0)
		return
	}
	if at <= c.Now && !c.Replay && !c.ReplicaRole {
		c.deleteObject(o)
		c.Effect(c.delVerb(), key)
		c.W.Int(1)
		return
	}
	// 0 stands for "no expiry" in memory; a time at or before 1970 has passed under any clock.
	c.DB.SetExpire(o, max(at, 1))
	c.Notify(EventGeneric, "expire", key)
	var buf [20]byte
	c.Effect(verbPExpireAt, key, strconv.AppendInt(buf[:0], max(at, 1), 10))
	c.W.Int(1)
}

func cmdTTL(c *Ctx)         { c.ttl(1000, false) }
func cmdPTTL(c *Ctx)        { c.ttl(1, false) }
func cmdExpireTime(c *Ctx)  { c.ttl(1000, true) }
func cmdPExpireTime(c *Ctx) { c.ttl(1, true) }

func (c *Ctx) ttl(unit int64, absolute bool) {
	o := c.Lookup(c.Args[1])
	switch {
	case o == nil:
		c.W.Int(-2)
	case o.ExpireAt() == 0:
		c.W.Int(-1)
	default:
		t := o.ExpireAt()
		if !absolute {
			t = max(t-c.Now, 0)
		}
		if unit == 1000 {
			t = (t + 500) / 1000
		}
		c.W.Int(t)
	}
}

func cmdPersist(c *Ctx) {
	o := c.Lookup(c.Args[1])
	if o == nil || o.ExpireAt() == 0 {
		c.W.Int(0)
		return
	}
	c.DB.SetExpire(o, 0)
	c.Notify(EventGeneric, "persist", c.Args[1])
	c.Changed()
	c.W.Int(1)
}
