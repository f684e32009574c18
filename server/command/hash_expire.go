package command

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// Fields of hashes that expire, as Redis has them from 7.4 on.
//
// A field whose time has come is a field until it is deleted: HLEN counts it, everything else that a client can ask does not
// show it. On a primary whoever looks it up by name deletes it, HRANDFIELD deletes all that are due, and the janitor deletes the
// rest; each deletion is an HDEL in the log. A replica hides what has expired and waits for that HDEL, and replay knows no
// clock at all (D1): it sees every field. What sets a time enters the log as HPEXPIREAT with the fields that it was set for.

var (
	verbHDel       = []byte("HDEL")
	verbHPExpireAt = []byte("HPEXPIREAT")
	verbHPersist   = []byte("HPERSIST")
	wordFields     = []byte("FIELDS")
)

// maxFieldTime is the latest time in unix ms that a client may set, Redis's HFE_MAX_ABS_TIME_MSEC: a quarter of what may be stored.
const maxFieldTime = rdb.MaxFieldExpire >> 2

// fieldGone tells whether field f of h has expired.
func (c *Ctx) fieldGone(h *keyspace.Hash, f []byte) bool {
	if h.Timed() == 0 || c.Replay {
		return false
	}
	at := h.ExpireAt(f)
	return at != 0 && at <= c.Now
}

// field returns the value of field f of a hash. If it has expired, it is not there, and on a primary it is deleted here: the
// deletion goes to the log before whatever the command does, and if it was the last field the key goes, too.
func (c *Ctx) field(o *keyspace.Object, f []byte) (v []byte, ok bool) {
	h := o.Hash()
	if v, ok = h.Get(f); ok && h.Timed() > 0 && c.fieldGone(h, f) {
		if !c.ReplicaRole {
			c.expireFields(o, f)
		}
		return nil, false
	}
	return v, ok
}

// expireFields deletes fields whose time has come. REQUIRES: they are there, o is in c.DB.
func (c *Ctx) expireFields(o *keyspace.Object, fields ...[]byte) {
	h := o.Hash()
	c.DB.Touch(o)
	for _, f := range fields {
		h.Del(f)
	}
	c.KS.ExpiredFields += int64(len(fields))
	changed := c.changed
	key := []byte(o.Key())
	c.implicitEffect(append([][]byte{verbHDel, key}, fields...)...)
	c.changed = changed
	c.Notify(EventHash, "hexpired", key)
	c.DeleteIfEmpty(o)
}

// expiredBatch is how many fields one HDEL names at most.
const expiredBatch = 64

// expireDue deletes all fields of a hash whose time has come, on a primary.
func (c *Ctx) expireDue(o *keyspace.Object) {
	if c.Replay || c.ReplicaRole {
		return
	}
	h := o.Hash()
	for at := h.EarliestExpire(); at != 0 && at <= c.Now; at = h.EarliestExpire() {
		c.expireFields(o, DueFields(h, c.Now, expiredBatch)...)
	}
}

// DueFields returns up to n fields of h whose time has come, the first to expire first.
func DueFields(h *keyspace.Hash, nowMs int64, n int) (fields [][]byte) {
	for f := range h.Due(nowMs) {
		if fields = append(fields, []byte(f)); len(fields) == n {
			break
		}
	}
	return fields
}

// shown returns how many fields of h have not expired.
func (c *Ctx) shown(h *keyspace.Hash) int {
	n := h.Len()
	if h.Timed() > 0 && !c.Replay {
		for range h.Due(c.Now) {
			n--
		}
	}
	return n
}

// alive returns o, nil if deleting expired fields has deleted its key.
func alive(o *keyspace.Object) *keyspace.Object {
	if o == nil || o.Type() == keyspace.TypeNone {
		return nil
	}
	return o
}

// --- HEXPIRE and its relatives

func cmdHExpire(c *Ctx)    { c.hexpire(1000, false) }
func cmdHPExpire(c *Ctx)   { c.hexpire(1, false) }
func cmdHExpireAt(c *Ctx)  { c.hexpire(1000, true) }
func cmdHPExpireAt(c *Ctx) { c.hexpire(1, true) }

// parseFieldTime parses a time, in units of that many ms, from now on or absolute, and returns it as unix ms.
func (c *Ctx) parseFieldTime(arg []byte, unit int64, absolute bool) (at int64, ok bool) {
	if at, ok = c.ParseInt(arg); !ok {
		return 0, false
	}
	if at < 0 {
		c.W.Error(reply.FieldExpireNegative)
		return 0, false
	}
	limit, base := int64(maxFieldTime), c.Now
	if c.Replay {
		limit = rdb.MaxFieldExpire // a file may have brought a later one
	}
	if absolute {
		base = 0
	}
	if at > limit/unit || at*unit > limit-base {
		c.W.Error(fmt.Sprintf(reply.InvalidExpireF, c.Spec.FullName))
		return 0, false
	}
	return at*unit + base, true
}

// parseFields parses FIELDS n field … from Args[at] on; the fields are all that follows. badCount is what is said of an n that is no
// positive number.
func (c *Ctx) parseFields(at int, badCount string) (fields [][]byte, ok bool) {
	if at >= len(c.Args) || !equalFold(c.Args[at], "fields") {
		c.W.Error(reply.FieldsMissing)
		return nil, false
	}
	if at+1 >= len(c.Args) {
		c.wrongArity()
		return nil, false
	}
	n, ok := c.parseWithin(c.Args[at+1], 1, math.MaxInt64, badCount)
	if !ok {
		return nil, false
	}
	if n != int64(len(c.Args)-at-2) {
		c.W.Error(reply.NumFieldsMismatch)
		return nil, false
	}
	return c.Args[at+2:], true
}

// fieldsEffect is an effect that ends with FIELDS n field ….
func (c *Ctx) fieldsEffect(fields [][]byte, head ...[]byte) {
	var buf [20]byte
	args := append(head, wordFields, strconv.AppendInt(buf[:0], int64(len(fields)), 10))
	c.Effect(append(args, fields...)...)
}

func (c *Ctx) expireAtEffect(key []byte, at int64, fields [][]byte) {
	var buf [20]byte
	c.fieldsEffect(fields, verbHPExpireAt, key, strconv.AppendInt(buf[:0], at, 10))
}

// pastTime tells whether what expires at that time is deleted at once.
func (c *Ctx) pastTime(at int64) bool { return at <= c.Now && !c.Replay && !c.ReplicaRole }

// What HEXPIRE and its relatives reply for a field.
const (
	fieldAbsent    = -2
	fieldNoExpire  = -1
	fieldUnchanged = 0 // the condition was not met
	fieldSet       = 1
	fieldDeleted   = 2 // the time has passed
)

// hexpire is the HEXPIRE family. Its effects are HDEL of what was deleted, and HPEXPIREAT of what has a time now.
func (c *Ctx) hexpire(unit int64, absolute bool) {
	key := c.Args[1]
	_, o, ok := c.lookupHash(key)
	if !ok {
		return
	}
	at, ok := c.parseFieldTime(c.Args[2], unit, absolute)
	if !ok {
		return
	}
	next, cond := 3, ""
	for _, word := range []string{"nx", "xx", "gt", "lt"} {
		if equalFold(c.Args[3], word) {
			next, cond = 4, word
		}
	}
	fields, ok := c.parseFields(next, reply.NumFieldsPositive)
	if !ok {
		return
	}
	past := c.pastTime(at)
	at = max(at, 1) // 0 is "never" in memory; a time at or before 1970 has passed under any clock
	var set, gone [][]byte
	c.W.Array(len(fields))
	for _, f := range fields {
		if alive(o) == nil {
			c.W.Int(fieldAbsent)
			continue
		}
		if _, there := c.field(o, f); !there {
			c.W.Int(fieldAbsent)
			continue
		}
		h := o.Hash()
		old := h.ExpireAt(f)
		// A field that never expires is later than any time for LT, but for GT nothing is later than never.
		if cond == "nx" && old != 0 || cond == "xx" && old == 0 || cond == "gt" && (old == 0 || at <= old) || cond == "lt" && old != 0 && at >= old {
			c.W.Int(fieldUnchanged)
			continue
		}
		c.DB.Touch(o)
		if past {
			gone = c.deleteField(o, f, gone)
			c.W.Int(fieldDeleted)
			continue
		}
		h.SetExpire(f, at)
		set = append(set, f)
		c.W.Int(fieldSet)
	}
	if len(gone) > 0 {
		c.KS.ExpiredFields += int64(len(gone))
		c.Effect(append([][]byte{verbHDel, key}, gone...)...)
	}
	if len(set) > 0 {
		c.expireAtEffect(key, at, set)
		c.Notify(EventHash, "hexpire", key)
	}
}

// deleteField deletes a field that a command takes away, its key with the last one, and returns gone with it. Redis tells hdel once,
// before the key goes.
func (c *Ctx) deleteField(o *keyspace.Object, f []byte, gone [][]byte) [][]byte {
	c.DB.Touch(o)
	o.Hash().Del(f)
	if len(gone) == 0 {
		c.Notify(EventHash, "hdel", c.Args[1])
	}
	c.DeleteIfEmpty(o)
	return append(gone, f)
}

func cmdHTTL(c *Ctx)         { c.httl(1000, false) }
func cmdHPTTL(c *Ctx)        { c.httl(1, false) }
func cmdHExpireTime(c *Ctx)  { c.httl(1000, true) }
func cmdHPExpireTime(c *Ctx) { c.httl(1, true) }

func (c *Ctx) httl(unit int64, absolute bool) {
	h, _, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	fields, ok := c.parseFields(2, reply.NumFieldsNotPositive)
	if !ok {
		return
	}
	base := c.Now
	if absolute {
		base = 0
	}
	c.W.Array(len(fields))
	for _, f := range fields {
		switch at := c.fieldTime(h, f); at {
		case fieldAbsent, fieldNoExpire:
			c.W.Int(at)
		default:
			c.W.Int((max(at-base, 0) + unit - 1) / unit)
		}
	}
}

// fieldTime returns when a field expires, or fieldAbsent or fieldNoExpire. h may be nil.
func (c *Ctx) fieldTime(h *keyspace.Hash, f []byte) int64 {
	if h == nil {
		return fieldAbsent
	}
	if _, there := h.Get(f); !there || c.fieldGone(h, f) {
		return fieldAbsent
	}
	if at := h.ExpireAt(f); at != 0 {
		return at
	}
	return fieldNoExpire
}

// cmdHPersist has the fields as its effect that do not expire any more: replay would find one there that has expired.
func cmdHPersist(c *Ctx) {
	h, o, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	fields, ok := c.parseFields(2, reply.NumFieldsNotPositive)
	if !ok {
		return
	}
	var set [][]byte
	c.W.Array(len(fields))
	for _, f := range fields {
		at := c.fieldTime(h, f)
		if at > 0 {
			c.DB.Touch(o)
			h.SetExpire(f, 0)
			set = append(set, f)
			at = fieldSet
		}
		c.W.Int(at)
	}
	if len(set) > 0 {
		c.fieldsEffect(set, verbHPersist, c.Args[1])
		c.Notify(EventHash, "hpersist", c.Args[1])
	}
}

// --- HGETDEL, HGETEX, HSETEX of Redis 8. In the log they are commands that Redis 7.4 knows, too.

func cmdHGetDel(c *Ctx) {
	_, o, ok := c.lookupHash(c.Args[1])
	if !ok {
		return
	}
	fields, ok := c.parseFields(2, reply.NumFieldsNotPositive)
	if !ok {
		return
	}
	var gone [][]byte
	c.W.Array(len(fields))
	for _, f := range fields {
		if !c.bulkField(o, f) {
			continue
		}
		gone = c.deleteField(o, f, gone)
	}
	if len(gone) > 0 {
		c.Effect(append([][]byte{verbHDel, c.Args[1]}, gone...)...)
	}
}

// bulkField replies with a field's value, or null, and tells whether it is there. o may be nil, or deleted.
func (c *Ctx) bulkField(o *keyspace.Object, f []byte) bool {
	if alive(o) != nil {
		if v, there := c.field(o, f); there {
			c.W.Bulk(v)
			return true
		}
	}
	c.W.Null()
	return false
}

// fieldExpiry is the option of HGETEX and HSETEX that says when fields expire.
type fieldExpiry struct {
	unit     int64 // ms; 0: it is none of EX, PX, EXAT, PXAT
	absolute bool
}

func fieldExpiryOf(word []byte) (e fieldExpiry) {
	switch {
	case equalFold(word, "ex"):
		e.unit = 1000
	case equalFold(word, "px"):
		e.unit = 1
	case equalFold(word, "exat"):
		e = fieldExpiry{1000, true}
	case equalFold(word, "pxat"):
		e = fieldExpiry{1, true}
	}
	return e
}

func cmdHGetEx(c *Ctx) {
	key := c.Args[1]
	_, o, ok := c.lookupHash(key)
	if !ok {
		return
	}
	next, at := 2, int64(0)
	expiry, persist := fieldExpiryOf(c.Args[2]), equalFold(c.Args[2], "persist")
	if expiry.unit != 0 {
		next = 4
		if at, ok = c.parseFieldTime(c.Args[3], expiry.unit, expiry.absolute); !ok {
			return
		}
	} else if persist {
		next = 3
	}
	fields, ok := c.parseFields(next, reply.NumFieldsNotPositive)
	if !ok {
		return
	}
	past := c.pastTime(at)
	at = max(at, 1)
	var set, gone [][]byte
	c.W.Array(len(fields))
	for _, f := range fields {
		if !c.bulkField(o, f) || expiry.unit == 0 && !persist {
			continue
		}
		h := o.Hash()
		switch {
		case persist:
			if h.ExpireAt(f) != 0 {
				c.DB.Touch(o)
				h.SetExpire(f, 0)
				set = append(set, f)
			}
		case past:
			gone = c.deleteField(o, f, gone)
		default:
			c.DB.Touch(o)
			h.SetExpire(f, at)
			set = append(set, f)
		}
	}
	if len(gone) > 0 {
		c.KS.ExpiredFields += int64(len(gone))
		c.Effect(append([][]byte{verbHDel, key}, gone...)...)
	}
	switch {
	case len(set) == 0:
	case persist:
		c.fieldsEffect(set, verbHPersist, key)
		c.Notify(EventHash, "hpersist", key)
	default:
		c.expireAtEffect(key, at, set)
		c.Notify(EventHash, "hexpire", key)
	}
}

// hsetexArgs are the arguments of HSETEX.
type hsetexArgs struct {
	fnx, fxx, keep bool
	expires        bool
	at             int64 // unix ms
	pairs          [][]byte
}

func (c *Ctx) parseHSetEx() (a hsetexArgs, ok bool) {
	for i := 2; i < len(c.Args); i++ {
		word, left := c.Args[i], len(c.Args)-i-1
		expiry := fieldExpiryOf(word)
		switch {
		case equalFold(word, "fields"):
			if left < 3 {
				c.wrongArity()
				return a, false
			}
			n, ok := c.parseWithin(c.Args[i+1], 1, math.MaxInt32, reply.InvalidNumFields)
			if !ok {
				return a, false
			}
			if a.pairs = c.Args[i+2:]; len(a.pairs)%2 != 0 || int64(len(a.pairs)/2) != n {
				c.wrongArity()
				return a, false
			}
			return a, true
		case expiry.unit != 0:
			if a.expires || a.keep {
				c.W.Error(reply.FieldExpireOnce)
				return a, false
			}
			if left < 1 {
				c.W.Error(reply.FieldExpireMissing)
				return a, false
			}
			a.expires = true
			i++
			if a.at, ok = c.parseFieldTime(c.Args[i], expiry.unit, expiry.absolute); !ok {
				return a, false
			}
		case equalFold(word, "keepttl"):
			if a.expires || a.keep {
				c.W.Error(reply.FieldExpireOnce)
				return a, false
			}
			a.keep = true
		case equalFold(word, "fxx"), equalFold(word, "fnx"):
			if a.fxx || a.fnx {
				c.W.Error(reply.FieldConditionOnce)
				return a, false
			}
			a.fxx = equalFold(word, "fxx")
			a.fnx = !a.fxx
		default:
			c.W.Error(fmt.Sprintf(reply.UnknownArgumentF, word))
			return a, false
		}
	}
	c.W.Error(reply.FieldsMissing)
	return a, false
}

func cmdHSetEx(c *Ctx) {
	key := c.Args[1]
	a, ok := c.parseHSetEx()
	if !ok {
		return
	}
	_, o, ok := c.lookupHash(key)
	if !ok {
		return
	}
	if a.fnx || a.fxx {
		for i := 0; i < len(a.pairs); i += 2 {
			there := false
			if alive(o) != nil {
				_, there = c.field(o, a.pairs[i])
			}
			if there == a.fnx {
				c.W.Int(0)
				return
			}
		}
	}
	o = alive(o)
	c.W.Int(1)
	if a.expires && c.pastTime(a.at) {
		var gone [][]byte
		for i := 0; i < len(a.pairs) && alive(o) != nil; i += 2 {
			if _, there := o.Hash().Get(a.pairs[i]); there {
				gone = c.deleteField(o, a.pairs[i], gone)
			}
		}
		if len(gone) > 0 {
			c.KS.ExpiredFields += int64(len(gone))
			c.Effect(append([][]byte{verbHDel, key}, gone...)...)
		}
		return
	}
	h := c.writeHash(key, o)
	fields := make([][]byte, 0, len(a.pairs)/2)
	for i := 0; i < len(a.pairs); i += 2 {
		f, v := a.pairs[i], a.pairs[i+1]
		if a.keep {
			h.SetKeepExpire(f, v)
		} else {
			h.Set(f, v)
		}
		if a.expires {
			h.SetExpire(f, max(a.at, 1))
		}
		fields = append(fields, f)
	}
	c.Effect(append([][]byte{verbHSet, key}, a.pairs...)...)
	c.Notify(EventHash, "hset", key)
	switch {
	case a.expires:
		c.expireAtEffect(key, max(a.at, 1), fields)
		c.Notify(EventHash, "hexpire", key)
	case a.keep: // HSET takes the times away
		for i, f := range fields {
			if at := h.ExpireAt(f); at != 0 && !containsBytes(fields[:i], f) {
				c.expireAtEffect(key, at, [][]byte{f})
			}
		}
	}
}

func containsBytes(list [][]byte, b []byte) bool {
	for _, e := range list {
		if bytes.Equal(e, b) {
			return true
		}
	}
	return false
}
