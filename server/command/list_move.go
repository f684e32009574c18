package command

import (
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

// Moving elements between lists, and popping from the first of several: LMOVE, LMPOP and the blocking commands.
//
// A blocking command tries; if it finds nothing it asks to be parked (Ctx.Block) and is run again, from its beginning,
// when one of its keys gets an element. Once it is served it goes to the log as its form that does not block (D1).
// To add a blocking command: parse all, try, Block with the keys it waits for, name its effect, and set FlagBlocking.

var (
	verbLPop      = []byte("LPOP")
	verbRPop      = []byte("RPOP")
	verbLMove     = []byte("LMOVE")
	verbRPopLPush = []byte("RPOPLPUSH")
)

func popVerb(left bool) []byte {
	if left {
		return verbLPop
	}
	return verbRPop
}

// parseEnd parses LEFT or RIGHT.
func (c *Ctx) parseEnd(b []byte) (left, ok bool) {
	if equalFold(b, "left") {
		return true, true
	}
	if !equalFold(b, "right") {
		c.W.Error(reply.Syntax)
		return false, false
	}
	return false, true
}

func (c *Ctx) parseEnds(from, to []byte) (fromLeft, toLeft, ok bool) {
	if fromLeft, ok = c.parseEnd(from); !ok {
		return false, false, false
	}
	toLeft, ok = c.parseEnd(to)
	return fromLeft, toLeft, ok
}

func cmdLMove(c *Ctx) {
	fromLeft, toLeft, ok := c.parseEnds(c.Args[3], c.Args[4])
	if !ok {
		return
	}
	if src, ok := c.LookupType(c.Args[1], keyspace.TypeList); src != nil {
		if c.move(src, fromLeft, toLeft) {
			c.Changed()
		}
	} else if ok {
		c.W.Null()
	}
}

func cmdRPopLPush(c *Ctx) {
	if src, ok := c.LookupType(c.Args[1], keyspace.TypeList); src != nil {
		if c.move(src, false, true) {
			c.Changed()
		}
	} else if ok {
		c.W.Null()
	}
}

// move takes an element from src to the list of Args[2] and replies with it. It returns false if WRONGTYPE was replied.
func (c *Ctx) move(src *keyspace.Object, fromLeft, toLeft bool) bool {
	dst, ok := c.LookupType(c.Args[2], keyspace.TypeList)
	if !ok {
		return false
	}
	c.DB.Touch(src)
	v := popFrom(src.List(), fromLeft)
	c.W.Bulk(v)
	// The reply holds a copy of v, which a push to the same list may overwrite.
	end := c.W.Len() - len("\r\n")
	v = c.W.Bytes()[end-len(v) : end]
	if dst == nil {
		l := keyspace.NewList(c.KS.Limits())
		pushTo(l, v, toLeft)
		c.DB.Put(c.Args[2], l)
	} else {
		c.DB.Touch(dst)
		pushTo(dst.List(), v, toLeft)
	}
	c.Notify(EventList, pushEvent(toLeft), c.Args[2])
	c.Notify(EventList, popEvent(fromLeft), c.Args[1])
	c.DeleteIfEmpty(src)
	return true
}

func cmdBLMove(c *Ctx) {
	fromLeft, toLeft, ok := c.parseEnds(c.Args[3], c.Args[4])
	if !ok {
		return
	}
	timeout, ok := c.parseTimeout(c.Args[5])
	if ok && c.blockingMove(fromLeft, toLeft, timeout) {
		c.Effect(verbLMove, c.Args[1], c.Args[2], c.Args[3], c.Args[4])
	}
}

func cmdBRPopLPush(c *Ctx) {
	timeout, ok := c.parseTimeout(c.Args[3])
	if ok && c.blockingMove(false, true, timeout) {
		c.Effect(verbRPopLPush, c.Args[1], c.Args[2])
	}
}

func (c *Ctx) blockingMove(fromLeft, toLeft bool, timeout int64) (moved bool) {
	src, ok := c.LookupType(c.Args[1], keyspace.TypeList)
	switch {
	case !ok:
	case src != nil:
		return c.move(src, fromLeft, toLeft)
	case c.BlockAllowed():
		c.Block(c.Args[1:2], timeout)
	default:
		c.W.Null()
	}
	return false
}

func cmdBLPop(c *Ctx) { c.blockingPop(true) }
func cmdBRPop(c *Ctx) { c.blockingPop(false) }

func (c *Ctx) blockingPop(left bool) {
	last := len(c.Args) - 1
	timeout, ok := c.parseTimeout(c.Args[last])
	if !ok {
		return
	}
	keys := c.Args[1:last]
	for _, key := range keys {
		l, o, ok := c.lookupList(key)
		if !ok {
			return
		}
		if l == nil {
			continue
		}
		c.DB.Touch(o)
		c.W.Array(2)
		c.W.Bulk(key)
		c.W.Bulk(popFrom(l, left))
		c.Notify(EventList, popEvent(left), key)
		c.DeleteIfEmpty(o)
		c.Effect(popVerb(left), key)
		return
	}
	c.blockOrNull(keys, timeout)
}

// blockOrNull ends a blocking command that found nothing.
func (c *Ctx) blockOrNull(keys [][]byte, timeout int64) {
	if c.BlockAllowed() {
		c.Block(keys, timeout)
		return
	}
	c.W.NullArray()
}

func cmdLMPop(c *Ctx)  { c.popFirst(1, false) }
func cmdBLMPop(c *Ctx) { c.popFirst(2, true) }

// popFirst does LMPOP, whose number of keys stands in Args[at]; if blocking, Args[1] is the timeout, which Redis looks at
// last.
func (c *Ctx) popFirst(at int, blocking bool) {
	keys, next, ok := c.parseNumKeys(at)
	if !ok {
		return
	}
	left, ok := c.parseEnd(c.Args[next])
	if !ok {
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
		l, o, ok := c.lookupList(key)
		if !ok {
			return
		}
		if l != nil {
			c.W.Array(2)
			c.W.Bulk(key)
			n := c.replyPopped(key, o, left, count)
			c.effectCounted(popVerb(left), key, n)
			return
		}
	}
	c.endPopFirst(keys, timeout, blocking)
}

// endPopFirst ends a command of the MPOP family that found nothing.
func (c *Ctx) endPopFirst(keys [][]byte, timeout int64, blocking bool) {
	if blocking {
		c.blockOrNull(keys, timeout)
		return
	}
	c.W.NullArray()
}
