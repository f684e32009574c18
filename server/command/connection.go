package command

import (
	"strconv"

	"github.com/holdfast-db/holdfast/server/reply"
)

func cmdPing(c *Ctx) {
	switch len(c.Args) {
	case 1:
		c.W.Simple("PONG")
	case 2:
		c.W.Bulk(c.Args[1])
	default:
		c.wrongArity()
	}
}

func cmdEcho(c *Ctx) { c.W.Bulk(c.Args[1]) }

// cmdTime tells the time of this hold of the executor, to the millisecond.
func cmdTime(c *Ctx) {
	c.W.Array(2)
	c.W.BulkString(strconv.FormatInt(c.Now/1000, 10))
	c.W.BulkString(strconv.FormatInt(c.Now%1000*1000, 10))
}

func cmdDBSize(c *Ctx) { c.W.Int(int64(c.DB.Len())) }

// flushOptions checks ASYNC and SYNC, which mean the same here: emptying a database does not wait for its memory.
func (c *Ctx) flushOptions() bool {
	switch {
	case len(c.Args) == 1, len(c.Args) == 2 && (equalFold(c.Args[1], "async") || equalFold(c.Args[1], "sync")):
		return true
	}
	c.W.Error(reply.Syntax)
	return false
}

func cmdFlushDB(c *Ctx) {
	if c.flushOptions() {
		c.KS.FlushDB(c.DB.Index())
		c.Changed()
		c.W.OK()
	}
}

func cmdFlushAll(c *Ctx) {
	if c.flushOptions() {
		c.KS.FlushAll()
		c.Changed()
		c.W.OK()
	}
}

func cmdSwapDB(c *Ctx) {
	a, ok := ParseInt(c.Args[1])
	if !ok || a != int64(int32(a)) {
		c.W.Error(reply.InvalidFirstDB)
		return
	}
	b, ok := ParseInt(c.Args[2])
	if !ok || b != int64(int32(b)) {
		c.W.Error(reply.InvalidSecondDB)
		return
	}
	if n := int64(c.KS.NumDBs()); a < 0 || b < 0 || a >= n || b >= n {
		c.W.Error(reply.DBIndexOutOfRange)
		return
	}
	c.KS.SwapDB(int(a), int(b))
	c.Changed()
	c.W.OK()
}
