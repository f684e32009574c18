package command

import (
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

// Popping from sorted sets. See list_move.go for how blocking commands work.

var (
	verbZPopMin = []byte("ZPOPMIN")
	verbZPopMax = []byte("ZPOPMAX")
)

func zpopVerb(largest bool) []byte {
	if largest {
		return verbZPopMax
	}
	return verbZPopMin
}

// zpopEvent names what is told of a pop.
func zpopEvent(largest bool) string {
	if largest {
		return "zpopmax"
	}
	return "zpopmin"
}

func cmdZPopMin(c *Ctx) { c.zpop(false) }
func cmdZPopMax(c *Ctx) { c.zpop(true) }

func (c *Ctx) zpop(largest bool) {
	if len(c.Args) > 3 {
		c.W.Error(reply.Syntax)
		return
	}
	count, counted := int64(1), len(c.Args) == 3
	if counted {
		var ok bool
		if count, ok = c.parsePositive(c.Args[2]); !ok {
			return
		}
	}
	z, o, ok := c.lookupZSet(c.Args[1])
	switch {
	case !ok:
	case z == nil || count == 0:
		c.W.Array(0)
	default:
		s := popSpan(z, count, largest)
		emit := c.flatPair
		if counted && c.W.Proto() == 3 {
			c.W.Array(s.len())
			emit = c.nestedPair
		} else {
			c.W.Array(2 * s.len())
		}
		s.each(z, largest, emit)
		c.Notify(EventZSet, zpopEvent(largest), c.Args[1])
		c.removeSpan(z, o, s)
		c.Changed()
	}
}

// popSpan returns the count first or last ranks.
func popSpan(z *keyspace.ZSet, count int64, largest bool) span {
	n := int(min(count, int64(z.Len())))
	if largest {
		return span{z.Len() - n, z.Len() - 1}
	}
	return span{0, n - 1}
}

func cmdBZPopMin(c *Ctx) { c.blockingZPop(false) }
func cmdBZPopMax(c *Ctx) { c.blockingZPop(true) }

func (c *Ctx) blockingZPop(largest bool) {
	last := len(c.Args) - 1
	timeout, ok := c.parseTimeout(c.Args[last])
	if !ok {
		return
	}
	keys := c.Args[1:last]
	for _, key := range keys {
		z, o, ok := c.lookupZSet(key)
		if !ok {
			return
		}
		if z == nil {
			continue
		}
		s := popSpan(z, 1, largest)
		c.W.Array(3)
		c.W.Bulk(key)
		s.each(z, largest, c.flatPair)
		c.Notify(EventZSet, zpopEvent(largest), key)
		c.removeSpan(z, o, s)
		c.Effect(zpopVerb(largest), key)
		return
	}
	c.blockOrNull(keys, timeout)
}

func cmdZMPop(c *Ctx)  { c.zpopFirst(1, false) }
func cmdBZMPop(c *Ctx) { c.zpopFirst(2, true) }

// zpopFirst does ZMPOP, whose number of keys stands in Args[at]; if blocking, Args[1] is the timeout, which Redis looks
// at last.
func (c *Ctx) zpopFirst(at int, blocking bool) {
	keys, next, ok := c.parseNumKeys(at)
	if !ok {
		return
	}
	largest := equalFold(c.Args[next], "max")
	if !largest && !equalFold(c.Args[next], "min") {
		c.W.Error(reply.Syntax)
		return
	}
	count, ok := c.parsePopCount(next + 1)
	if !ok {
		return
	}
	timeout := int64(0)
	if blocking {
		if timeout, ok = c.parseTimeout(c.Args[1]); !ok {
			return
		}
	}
	for _, key := range keys {
		z, o, ok := c.lookupZSet(key)
		if !ok {
			return
		}
		if z == nil {
			continue
		}
		s := popSpan(z, count, largest)
		c.W.Array(2)
		c.W.Bulk(key)
		c.W.Array(s.len())
		s.each(z, largest, c.nestedPair)
		c.Notify(EventZSet, zpopEvent(largest), key)
		c.removeSpan(z, o, s)
		c.effectCounted(zpopVerb(largest), key, s.len())
		return
	}
	c.endPopFirst(keys, timeout, blocking)
}
