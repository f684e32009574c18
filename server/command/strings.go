package command

import (
	"fmt"
	"math"
	"strconv"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

var (
	verbSet       = []byte("SET")
	verbDel       = []byte("DEL")
	verbUnlink    = []byte("UNLINK")
	verbPersist   = []byte("PERSIST")
	verbPExpireAt = []byte("PEXPIREAT")
	wordPXAT      = []byte("PXAT")
	wordKeepTTL   = []byte("KEEPTTL")
)

// lookupString returns the value of a string key; v is nil if there is none. ok is false if WRONGTYPE was replied.
func (c *Ctx) lookupString(key []byte) (v []byte, o *keyspace.Object, ok bool) {
	o, ok = c.LookupType(key, keyspace.TypeString)
	if o != nil {
		v = o.String()
	}
	return v, o, ok
}

func cmdGet(c *Ctx) {
	v, o, ok := c.lookupString(c.Args[1])
	switch {
	case !ok:
	case o == nil:
		c.W.Null()
	default:
		c.W.Bulk(v)
	}
}

// setOptions are those of SET and GETEX.
type setOptions struct {
	nx, xx, get, keepTTL, persist bool

	ttl      string // the option that gave the expiry: ex, px, exat, pxat; "" = none
	value    []byte // its argument, not yet looked at
	unit     int64  // ms in one of value
	absolute bool
}

// setTTL takes the name of an option and what follows it. It reports false if that does not give an expiry, or if another
// option has: the same one may be given again, and the last counts, as in Redis.
func (s *setOptions) setTTL(opt []byte, rest [][]byte) bool {
	if len(rest) == 0 || s.keepTTL || s.persist {
		return false
	}
	var name string
	switch {
	case equalFold(opt, "ex"):
		name, s.unit, s.absolute = "ex", 1000, false
	case equalFold(opt, "px"):
		name, s.unit, s.absolute = "px", 1, false
	case equalFold(opt, "exat"):
		name, s.unit, s.absolute = "exat", 1000, true
	case equalFold(opt, "pxat"):
		name, s.unit, s.absolute = "pxat", 1, true
	}
	if name == "" || s.ttl != "" && s.ttl != name {
		return false
	}
	s.ttl, s.value = name, rest[0]
	return true
}

// parseSetOptions parses Args[from:]. getex tells which of the two commands it is. The expiry is left to expireOf: GETEX
// looks its key up before.
func (c *Ctx) parseSetOptions(from int, getex bool) (s setOptions, ok bool) {
	for i := from; i < len(c.Args); i++ {
		opt := c.Args[i]
		switch {
		case !getex && equalFold(opt, "nx") && !s.xx:
			s.nx = true
		case !getex && equalFold(opt, "xx") && !s.nx:
			s.xx = true
		case !getex && equalFold(opt, "get"):
			s.get = true
		case !getex && equalFold(opt, "keepttl") && s.ttl == "":
			s.keepTTL = true
		case getex && equalFold(opt, "persist") && s.ttl == "":
			s.persist = true
		case s.setTTL(opt, c.Args[i+1:]):
			i++
		default:
			c.W.Error(reply.Syntax)
			return s, false
		}
	}
	return s, true
}

// expireOf returns the expiry that options give in unix ms, 0 if none. ok is false if an error was replied.
func (c *Ctx) expireOf(s *setOptions) (at int64, ok bool) {
	if s.ttl == "" {
		return 0, true
	}
	return c.parseExpire(s.value, s.unit, s.absolute)
}

// parseExpire turns a time of expiry into unix ms. It must be positive and not overflow.
func (c *Ctx) parseExpire(value []byte, unit int64, absolute bool) (int64, bool) {
	n, ok := c.ParseInt(value)
	if !ok {
		return 0, false
	}
	if n <= 0 || unit == 1000 && n > math.MaxInt64/1000 {
		c.W.Error(fmt.Sprintf(reply.InvalidExpireF, c.Spec.FullName))
		return 0, false
	}
	n *= unit
	if !absolute {
		if n > math.MaxInt64-c.Now {
			c.W.Error(fmt.Sprintf(reply.InvalidExpireF, c.Spec.FullName))
			return 0, false
		}
		n += c.Now
	}
	return n, true
}

// setWithExpire sets a key that expires. A time that has passed already is set like any other, as in Redis 7.0: the key is
// there until it is met or its turn comes, and its deletion then goes to the log by itself.
func (c *Ctx) setWithExpire(key, val []byte, at int64) {
	o := c.DB.SetString(key, val, false)
	c.DB.SetExpire(o, at)
	c.Notify(EventString, "set", key)
	c.Notify(EventGeneric, "expire", key)
	var buf [20]byte
	c.Effect(verbSet, key, val, wordPXAT, strconv.AppendInt(buf[:0], at, 10))
}

func cmdSet(c *Ctx) {
	key, val := c.Args[1], c.Args[2]
	if len(c.Args) == 3 {
		// What it held does not matter, but a key that has expired is gone before, as for every write.
		if o := c.Lookup(key); o != nil {
			c.DB.SetStringOf(o, val, false)
		} else {
			c.DB.SetString(key, val, false)
		}
		c.Notify(EventString, "set", key)
		c.Changed()
		c.W.OK()
		return
	}
	s, ok := c.parseSetOptions(3, false)
	if !ok {
		return
	}
	at, ok := c.expireOf(&s)
	if !ok {
		return
	}
	c.counting = s.get
	o := c.Lookup(key)
	if s.get {
		if o != nil && o.Type() != keyspace.TypeString {
			c.W.Error(reply.WrongType)
			return
		}
		if o == nil {
			c.W.Null()
		} else {
			c.W.Bulk(o.String())
		}
	}
	if s.nx && o != nil || s.xx && o == nil {
		if !s.get {
			c.W.Null()
		}
		return
	}
	switch {
	case at != 0:
		c.setWithExpire(key, val, at)
	default:
		c.DB.SetString(key, val, s.keepTTL)
		c.Notify(EventString, "set", key)
		c.Changed()
	}
	if !s.get {
		c.W.OK()
	}
}

// blindSet tells whether a SET asks for nothing of what the key held.
func blindSet(args [][]byte) bool {
	for _, opt := range args[min(3, len(args)):] {
		if equalFold(opt, "nx") || equalFold(opt, "xx") || equalFold(opt, "get") || equalFold(opt, "keepttl") {
			return false
		}
	}
	return true
}

func always([][]byte) bool { return true }

func cmdSetNX(c *Ctx) {
	if c.Lookup(c.Args[1]) != nil {
		c.W.Int(0)
		return
	}
	c.DB.SetString(c.Args[1], c.Args[2], false)
	c.Notify(EventString, "set", c.Args[1])
	c.Changed()
	c.W.Int(1)
}

func cmdSetEX(c *Ctx)  { c.setEX(1000) }
func cmdPSetEX(c *Ctx) { c.setEX(1) }

func (c *Ctx) setEX(unit int64) {
	at, ok := c.parseExpire(c.Args[2], unit, false)
	if !ok {
		return
	}
	c.Lookup(c.Args[1])
	c.setWithExpire(c.Args[1], c.Args[3], at)
	c.W.OK()
}

func cmdGetEX(c *Ctx) {
	s, ok := c.parseSetOptions(2, true)
	if !ok {
		return
	}
	c.counting = true
	v, o, ok := c.lookupString(c.Args[1])
	if !ok {
		return
	}
	if o == nil {
		c.W.Null()
		return
	}
	at, ok := c.expireOf(&s)
	if !ok {
		return
	}
	c.W.Bulk(v)
	switch {
	case at != 0 && at <= c.Now && !c.Replay:
		c.deleteObject(o)
		c.Effect(c.delVerb(), c.Args[1])
	case at != 0:
		c.DB.SetExpire(o, at)
		c.Notify(EventGeneric, "expire", c.Args[1])
		var buf [20]byte
		c.Effect(verbPExpireAt, c.Args[1], strconv.AppendInt(buf[:0], at, 10))
	case s.persist && o.ExpireAt() != 0:
		c.DB.SetExpire(o, 0)
		c.Notify(EventGeneric, "persist", c.Args[1])
		c.Effect(verbPersist, c.Args[1])
	}
}

// delVerb is how a deletion that a command implies goes to the log.
func (c *Ctx) delVerb() []byte {
	if c.Conf.LazyfreeExpire {
		return verbUnlink
	}
	return verbDel
}

func cmdGetDel(c *Ctx) {
	c.counting = true
	v, o, ok := c.lookupString(c.Args[1])
	if !ok {
		return
	}
	if o == nil {
		c.W.Null()
		return
	}
	c.W.Bulk(v)
	c.deleteObject(o)
	c.Effect(verbDel, c.Args[1])
}

func cmdGetSet(c *Ctx) {
	c.counting = true
	v, o, ok := c.lookupString(c.Args[1])
	if !ok {
		return
	}
	if o == nil {
		c.W.Null()
	} else {
		c.W.Bulk(v)
	}
	c.DB.SetString(c.Args[1], c.Args[2], false)
	c.Notify(EventString, "set", c.Args[1])
	c.Effect(verbSet, c.Args[1], c.Args[2])
}

func cmdMGet(c *Ctx) {
	c.W.Array(len(c.Args) - 1)
	for _, k := range c.Args[1:] {
		if o := c.Lookup(k); o != nil && o.Type() == keyspace.TypeString {
			c.W.Bulk(o.String())
		} else {
			c.W.Null()
		}
	}
}

func cmdMSet(c *Ctx) {
	if len(c.Args)%2 == 0 {
		c.W.Error(reply.MSetWrongArity)
		return
	}
	c.mset()
	c.W.OK()
}

func cmdMSetNX(c *Ctx) {
	if len(c.Args)%2 == 0 {
		c.W.Error(reply.MSetNXWrongArity)
		return
	}
	for i := 1; i < len(c.Args); i += 2 {
		if c.Lookup(c.Args[i]) != nil {
			c.W.Int(0)
			return
		}
	}
	c.mset()
	c.W.Int(1)
}

func (c *Ctx) mset() {
	for i := 1; i < len(c.Args); i += 2 {
		c.Lookup(c.Args[i])
		c.DB.SetString(c.Args[i], c.Args[i+1], false)
		c.Notify(EventString, "set", c.Args[i])
	}
	c.Changed()
}

// lengthOK tells whether a string may become n bytes long; it replies if not. A replayed record was checked when it was
// made (D1).
func (c *Ctx) lengthOK(n int64) bool {
	if n > c.Conf.ProtoMaxBulkLen && !c.Replay {
		c.W.Error(reply.StringTooLong)
		return false
	}
	return true
}

func cmdAppend(c *Ctx) {
	v, o, ok := c.lookupString(c.Args[1])
	if !ok || !c.lengthOK(int64(len(v)+len(c.Args[2]))) {
		return
	}
	if o == nil {
		o = c.DB.SetString(c.Args[1], c.Args[2], false)
	} else {
		c.DB.Append(o, c.Args[2])
	}
	c.Notify(EventString, "append", c.Args[1])
	c.Changed()
	c.W.Int(int64(o.Len()))
}

func cmdStrlen(c *Ctx) {
	if v, _, ok := c.lookupString(c.Args[1]); ok {
		c.W.Int(int64(len(v)))
	}
}

func cmdSetRange(c *Ctx) {
	off, ok := c.ParseInt(c.Args[2])
	if !ok {
		return
	}
	if off < 0 {
		c.W.Error(reply.OffsetOutOfRange)
		return
	}
	data := c.Args[3]
	v, o, ok := c.lookupString(c.Args[1])
	if !ok {
		return
	}
	if len(data) == 0 {
		c.W.Int(int64(len(v)))
		return
	}
	if off > math.MaxInt64-int64(len(data)) || !c.lengthOK(off+int64(len(data))) {
		if off > math.MaxInt64-int64(len(data)) {
			c.W.Error(reply.StringTooLong)
		}
		return
	}
	if o == nil {
		o = c.DB.SetString(c.Args[1], nil, false)
	}
	c.DB.SetRange(o, int(off), data)
	c.Notify(EventString, "setrange", c.Args[1])
	c.Changed()
	c.W.Int(int64(o.Len()))
}

func cmdGetRange(c *Ctx) {
	start, ok := c.ParseInt(c.Args[2])
	if !ok {
		return
	}
	end, ok := c.ParseInt(c.Args[3])
	if !ok {
		return
	}
	v, _, ok := c.lookupString(c.Args[1])
	if !ok {
		return
	}
	n := int64(len(v))
	if start < 0 && end < 0 && start > end {
		c.W.Bulk(nil)
		return
	}
	if start < 0 {
		start = max(start+n, 0)
	}
	if end < 0 {
		end = max(end+n, 0)
	}
	end = min(end, n-1)
	if start > end || n == 0 {
		c.W.Bulk(nil)
		return
	}
	c.W.Bulk(v[start : end+1])
}

func cmdIncr(c *Ctx) { c.incrBy(1) }
func cmdDecr(c *Ctx) { c.incrBy(-1) }

func cmdIncrBy(c *Ctx) {
	if n, ok := c.ParseInt(c.Args[2]); ok {
		c.incrBy(n)
	}
}

func cmdDecrBy(c *Ctx) {
	n, ok := c.ParseInt(c.Args[2])
	if !ok {
		return
	}
	if n == math.MinInt64 {
		c.W.Error(reply.DecrOverflow)
		return
	}
	c.incrBy(-n)
}

func (c *Ctx) incrBy(by int64) {
	v, o, ok := c.lookupString(c.Args[1])
	if !ok {
		return
	}
	var n int64
	if o != nil {
		if n, ok = c.ParseInt(v); !ok {
			return
		}
	}
	if by < 0 && n < math.MinInt64-by || by > 0 && n > math.MaxInt64-by {
		c.W.Error(reply.IncrOverflow)
		return
	}
	n += by
	var buf [20]byte
	c.DB.SetString(c.Args[1], strconv.AppendInt(buf[:0], n, 10), true)
	c.Notify(EventString, "incrby", c.Args[1])
	c.Changed()
	c.W.Int(n)
}

// cmdIncrByFloat has its sum as its effect, so that a replica with another floating point unit gets the same (D1).
func cmdIncrByFloat(c *Ctx) {
	v, o, ok := c.lookupString(c.Args[1])
	if !ok {
		return
	}
	if o == nil {
		v = nil
	}
	sum, ok := c.incrByFloat(v, c.Args[2])
	if !ok {
		return
	}
	c.DB.SetString(c.Args[1], sum, true)
	c.Notify(EventString, "incrbyfloat", c.Args[1])
	c.Effect(verbSet, c.Args[1], sum, wordKeepTTL)
	c.W.Bulk(sum)
}
