package command

import (
	"strconv"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

func cmdDel(c *Ctx)    { c.del() }
func cmdUnlink(c *Ctx) { c.del() }

func (c *Ctx) del() {
	n := int64(0)
	for _, k := range c.Args[1:] {
		if o := c.Lookup(k); o != nil {
			c.deleteObject(o)
			n++
		}
	}
	if n > 0 {
		c.Changed()
	}
	c.W.Int(n)
}

func cmdExists(c *Ctx) {
	n := int64(0)
	for _, k := range c.Args[1:] {
		if c.Lookup(k) != nil {
			n++
		}
	}
	c.W.Int(n)
}

func cmdTouch(c *Ctx) { cmdExists(c) } // a look-up is what counts as an access

func cmdType(c *Ctx) {
	if o := c.Lookup(c.Args[1]); o != nil {
		c.W.Simple(o.Type().String())
	} else {
		c.W.Simple("none")
	}
}

func cmdRename(c *Ctx)   { c.rename(false) }
func cmdRenameNX(c *Ctx) { c.rename(true) }

func (c *Ctx) rename(nx bool) {
	from, to := c.Args[1], c.Args[2]
	o := c.Lookup(from)
	if o == nil {
		c.W.Error(reply.NoSuchKey)
		return
	}
	if string(from) == string(to) {
		if nx {
			c.W.Int(0)
		} else {
			c.W.OK()
		}
		return
	}
	existed := c.Lookup(to) != nil
	if existed && nx {
		c.W.Int(0)
		return
	}
	c.DB.Rename(o, to)
	if existed {
		c.Notify(EventNew, "new", to) // Redis deletes it first
	}
	c.Notify(EventGeneric, "rename_from", from)
	c.Notify(EventGeneric, "rename_to", to)
	c.Changed()
	if nx {
		c.W.Int(1)
	} else {
		c.W.OK()
	}
}

// parseDB parses the index of a database.
func (c *Ctx) parseDB(b []byte, notInt string) (*keyspace.DB, bool) {
	n, ok := ParseInt(b)
	if !ok {
		c.W.Error(notInt)
		return nil, false
	}
	if n != int64(int32(n)) {
		c.W.Error(reply.IntOutOfRange)
		return nil, false
	}
	if n < 0 || n >= int64(c.KS.NumDBs()) {
		c.W.Error(reply.DBIndexOutOfRange)
		return nil, false
	}
	return c.KS.DB(int(n)), true
}

func cmdMove(c *Ctx) {
	to, ok := c.parseDB(c.Args[2], reply.NotInt)
	if !ok {
		return
	}
	if to == c.DB {
		c.W.Error(reply.SameObject)
		return
	}
	o := c.Lookup(c.Args[1])
	if o == nil || c.LookupIn(to, c.Args[1]) != nil {
		c.W.Int(0)
		return
	}
	c.DB.MoveTo(o, to, c.Args[1])
	c.Notify(EventGeneric, "move_from", c.Args[1])
	c.NotifyIn(to, EventGeneric, "move_to", c.Args[1])
	c.Changed()
	c.W.Int(1)
}

func cmdCopy(c *Ctx) {
	to, replace := c.DB, false
	for i := 3; i < len(c.Args); i++ {
		switch opt := c.Args[i]; {
		case equalFold(opt, "replace"):
			replace = true
		case equalFold(opt, "db") && i+1 < len(c.Args):
			i++
			var ok bool
			if to, ok = c.parseDB(c.Args[i], reply.NotInt); !ok {
				return
			}
		default:
			c.W.Error(reply.Syntax)
			return
		}
	}
	from, key := c.Args[1], c.Args[2]
	if to == c.DB && string(from) == string(key) {
		c.W.Error(reply.SameObject)
		return
	}
	c.counting = true
	o := c.Lookup(from)
	c.counting = false
	if o == nil {
		c.W.Int(0)
		return
	}
	existed := c.LookupIn(to, key) != nil
	if existed && !replace {
		c.W.Int(0)
		return
	}
	at := o.ExpireAt()
	n := to.CopyFrom(o, key)
	if at != 0 {
		to.SetExpire(n, at)
	}
	if existed {
		c.NotifyIn(to, EventNew, "new", key) // Redis deletes it first
	}
	c.NotifyIn(to, EventGeneric, "copy_to", key)
	c.Changed()
	c.W.Int(1)
}

// randomTries bounds how many expired keys RANDOMKEY draws before it returns one all the same, as Redis does.
const randomTries = 100

func cmdRandomKey(c *Ctx) {
	c.counting = false
	for try := 0; ; try++ {
		o := c.DB.Random(c.Rand)
		if o == nil {
			c.W.Null()
			return
		}
		key := []byte(o.Key())
		if c.Lookup(key) != nil || try >= randomTries {
			c.W.Bulk(key)
			return
		}
	}
}

// --- OBJECT

func (c *Ctx) lookupObject() *keyspace.Object {
	o := c.lookupCounted(c.DB, c.Args[2])
	if o == nil {
		c.W.Null()
	}
	return o
}

func cmdObjectEncoding(c *Ctx) {
	if o := c.lookupObject(); o != nil {
		c.W.BulkString(o.Encoding().String())
	}
}

// sharedInts is Redis's OBJ_SHARED_INTEGERS: small integers are one object there, whose count is the largest int.
const (
	sharedInts     = 10000
	sharedRefcount = 2147483647
)

func cmdObjectRefcount(c *Ctx) {
	o := c.lookupObject()
	if o == nil {
		return
	}
	if o.Encoding() == keyspace.EncInt && c.KS.Budget() == 0 {
		if n, ok := ParseInt(o.String()); ok && n >= 0 && n < sharedInts {
			c.W.Int(sharedRefcount)
			return
		}
	}
	c.W.Int(1)
}

func (c *Ctx) lfu() bool {
	return c.Conf.MaxMemoryPolicy == "allkeys-lfu" || c.Conf.MaxMemoryPolicy == "volatile-lfu"
}

func cmdObjectIdletime(c *Ctx) {
	idle := c.DB.IdleBefore(c.Args[2])
	o := c.lookupObject()
	if o == nil {
		return
	}
	c.DB.SetIdle(o, idle) // to ask is not to use
	if c.lfu() {
		c.W.Error(reply.LFUSelected)
		return
	}
	c.W.Int(idle)
}

func cmdObjectFreq(c *Ctx) {
	idle := c.DB.IdleBefore(c.Args[2])
	o := c.lookupObject()
	if o == nil {
		return
	}
	c.DB.SetIdle(o, idle)
	if !c.lfu() {
		c.W.Error(reply.LFUNotSelected)
		return
	}
	// Frequency is judged by recency: a key used this minute counts as Redis's initial 5, and one is lost for each minute.
	c.W.Int(max(0, lfuInit-idle/60))
}

const lfuInit = 5

func cmdObjectHelp(c *Ctx) {
	lines := []string{
		"OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
		"ENCODING <key>",
		"    Return the kind of internal representation used in order to store the value",
		"    associated with a <key>.",
		"FREQ <key>",
		"    Return the access frequency index of the <key>. The returned integer is",
		"    proportional to the logarithm of the recent access frequency of the key.",
		"IDLETIME <key>",
		"    Return the idle time of the <key>, that is the approximated number of",
		"    seconds elapsed since the last access to the key.",
		"REFCOUNT <key>",
		"    Return the number of references of the value associated with the specified",
		"    <key>.",
		"HELP",
		"    Prints this help.",
	}
	c.W.Array(len(lines))
	for _, l := range lines {
		c.W.Simple(l)
	}
}

// memoryUsage is MEMORY USAGE key [SAMPLES n]: what the key takes here, which is not what it takes in Redis.
func memoryUsage(c *Ctx) {
	for i := 3; i < len(c.Args); i++ {
		if !equalFold(c.Args[i], "samples") || i+1 >= len(c.Args) {
			c.W.Error(reply.Syntax)
			return
		}
		i++
		n, ok := c.ParseInt(c.Args[i])
		if !ok {
			return
		}
		if n < 0 {
			c.W.Error(reply.Syntax)
			return
		}
	}
	c.counting = false
	o := c.Lookup(c.Args[2])
	if o == nil {
		c.W.Null()
		return
	}
	c.W.Int(o.SizeOf())
}

// --- SCAN, KEYS

func cmdKeys(c *Ctx) {
	pattern := c.Args[1]
	all := len(pattern) == 1 && pattern[0] == '*'
	d := c.W.DeferArray()
	n := 0
	c.DB.Each(func(o *keyspace.Object) {
		if at := o.ExpireAt(); at != 0 && at <= c.Now {
			return
		}
		if all || globMatch(pattern, []byte(o.Key())) {
			c.W.BulkString(o.Key())
			n++
		}
	})
	c.W.Patch(d, n)
}

func cmdScan(c *Ctx) {
	cursor, ok := parseElementCursor(c.Args[1])
	if !ok {
		c.W.Error(reply.InvalidCursor)
		return
	}
	count := int64(defaultScanCount)
	var pattern, typ []byte
	for i := 2; i < len(c.Args); i += 2 {
		if i+1 >= len(c.Args) {
			c.W.Error(reply.Syntax)
			return
		}
		v := c.Args[i+1]
		switch opt := c.Args[i]; {
		case equalFold(opt, "count"):
			var ok bool
			if count, ok = c.ParseInt(v); !ok {
				return
			}
			if count < 1 {
				c.W.Error(reply.Syntax)
				return
			}
		case equalFold(opt, "match"):
			if pattern = v; string(v) == "*" {
				pattern = nil // also the empty key, which no pattern but this and the empty one matches
			}
		case equalFold(opt, "type"):
			typ = v
		default:
			c.W.Error(reply.Syntax)
			return
		}
	}
	var keys []string
	next := c.DB.Scan(cursor, int(min(count, 1<<30)), func(o *keyspace.Object) {
		if at := o.ExpireAt(); at != 0 && at <= c.Now {
			return
		}
		if typ != nil && !equalFold(typ, o.Type().String()) || pattern != nil && !globMatch(pattern, []byte(o.Key())) {
			return
		}
		keys = append(keys, o.Key())
	})
	c.W.Array(2)
	c.W.BulkString(strconv.FormatUint(next, 10))
	c.W.Array(len(keys))
	for _, k := range keys {
		c.W.BulkString(k)
	}
}
