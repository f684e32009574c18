package command

import (
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

// Config is what handlers may know of the server's configuration. Nothing in it may change what a replayed record does
// (D1): handlers skip these limits when Ctx.Replay is set.
type Config struct {
	ProtoMaxBulkLen   int64 // bytes; the longest string a command may build
	MaxMemoryPolicy   string
	LazyfreeUserDel   bool
	LazyfreeExpire    bool // expired keys leave as UNLINK instead of DEL
	LazyfreeServerDel bool
	Databases         int
	LFULogFactor      int
	LFUDecayTime      int
}

// DefaultConfig is Redis 7.0's.
func DefaultConfig() Config {
	return Config{ProtoMaxBulkLen: 512 << 20, MaxMemoryPolicy: "noeviction", Databases: 16, LFULogFactor: 10, LFUDecayTime: 1}
}

// Ctx is what one command sees and does. The engine owns it and uses it again for the next command.
type Ctx struct {
	Args [][]byte
	Spec *Spec
	DB   *keyspace.DB
	KS   *keyspace.Keyspace
	Now  int64 // unix ms, constant during the command (and a transaction)
	W    *reply.Writer
	Rand *rand.Rand
	// Replay: applying a record of the log or of a primary's stream. No expiry, no limits from configuration.
	Replay bool
	// ReplicaRole: this server follows a primary, so an expired key is hidden, never deleted, by a reader.
	ReplicaRole bool
	Conf        *Config

	// Raw is Args as the log writes them, nil if that has not been done yet.
	Raw []byte

	// What the engine reads after the handler.
	changed bool
	effects effectList
	block   BlockRequest
	noBlock bool
	// events are those that somebody may want to hear of, notes what of them has happened. See events.go.
	events Events
	notes  []Note
	// counting: look-ups count as hits or misses. Reset sets it for commands that only read; a handler that reads before it
	// writes (GETEX, the sources of BITOP) sets it around that.
	counting bool
}

// BlockRequest is what a blocking command that found nothing asks for.
type BlockRequest struct {
	Wanted    bool
	Keys      [][]byte
	TimeoutMs int64 // 0 = forever
}

// effectList is a flat list of commands: arguments are copied, since they may lie in a connection's buffer.
type effectList struct {
	buf  []byte
	ends []int // end of each argument in buf
	cmds []int // end of each command in ends
}

func (l *effectList) reset() { l.buf, l.ends, l.cmds = l.buf[:0], l.ends[:0], l.cmds[:0] }

// Reset prepares c for the next command; the engine calls it. Fields that the engine sets itself are left alone.
func (c *Ctx) Reset(spec *Spec, args [][]byte) {
	c.Spec, c.Args, c.Raw = spec, args, nil
	c.changed = false
	c.effects.reset()
	c.notes = c.notes[:0]
	c.block = BlockRequest{}
	c.counting = spec.Flags&FlagWrite == 0
}

// SetNoBlock makes blocking commands answer at once (MULTI, scripts, replay).
func (c *Ctx) SetNoBlock(v bool) { c.noBlock = v }

// Changed says that the data changed: the command goes to the log as it was sent, unless Effect names what does.
func (c *Ctx) Changed() { c.changed = true }

// HasChanged tells the engine whether anything goes to the log.
func (c *Ctx) HasChanged() bool { return c.changed || len(c.effects.cmds) > 0 }

// Effect adds a command that goes to the log in place of the one that was sent. It implies Changed.
func (c *Ctx) Effect(args ...[]byte) {
	for _, a := range args {
		c.effects.buf = append(c.effects.buf, a...)
		c.effects.ends = append(c.effects.ends, len(c.effects.buf))
	}
	c.effects.cmds = append(c.effects.cmds, len(c.effects.ends))
	c.changed = true
}

// EffectStr is Effect for strings.
func (c *Ctx) EffectStr(args ...string) {
	for _, a := range args {
		c.effects.buf = append(c.effects.buf, a...)
		c.effects.ends = append(c.effects.ends, len(c.effects.buf))
	}
	c.effects.cmds = append(c.effects.cmds, len(c.effects.ends))
	c.changed = true
}

// implicitEffect adds a deletion that comes before the command itself (an expired key). Unlike Effect it does not
// replace the command: if the command changes something as it was sent, the engine appends it after these.
func (c *Ctx) implicitEffect(args ...[]byte) {
	c.Effect(args...)
	c.effects.cmds[len(c.effects.cmds)-1] = -c.effects.cmds[len(c.effects.cmds)-1]
	c.changed = false
}

// Effects returns what goes to the log, in order: (explicit, verbatim). each is called with the arguments of each
// command, valid during the call. The engine wraps more than one in MULTI … EXEC. changedBefore keeps Changed's state
// when only implicit deletions were recorded.
func (c *Ctx) Effects(each func(args [][]byte)) (n int) {
	explicit := false
	var argv [][]byte
	start, pos := 0, 0
	for _, e := range c.effects.cmds {
		end := e
		if e < 0 {
			end = -e
		} else {
			explicit = true
		}
		argv = argv[:0]
		for ; start < end; start++ {
			argv = append(argv, c.effects.buf[pos:c.effects.ends[start]:c.effects.ends[start]])
			pos = c.effects.ends[start]
		}
		each(argv)
		n++
	}
	if c.changed && !explicit {
		each(c.Args)
		n++
	}
	return n
}

// Verbatim tells whether exactly the command as it was sent goes to the log.
func (c *Ctx) Verbatim() bool { return c.changed && len(c.effects.cmds) == 0 }

// EffectCount tells how many commands Effects will yield: 0, 1, or more (a transaction in the log).
func (c *Ctx) EffectCount() int {
	n := len(c.effects.cmds)
	if !c.changed {
		return n
	}
	for _, e := range c.effects.cmds {
		if e > 0 {
			return n
		}
	}
	return n + 1
}

// Lookup returns the key's object, or nil if it does not exist or has expired. On a primary an expired key is deleted
// here and its deletion goes to the log before whatever the command does.
func (c *Ctx) Lookup(key []byte) *keyspace.Object {
	return c.LookupIn(c.DB, key)
}

// LookupIn is Lookup in another database.
func (c *Ctx) LookupIn(db *keyspace.DB, key []byte) *keyspace.Object {
	o := c.lookupCounted(db, key)
	if o == nil && c.counting {
		c.NotifyIn(db, EventKeyMiss, "keymiss", key)
	}
	return o
}

// lookupCounted is LookupIn that tells nobody of a miss.
func (c *Ctx) lookupCounted(db *keyspace.DB, key []byte) *keyspace.Object {
	o := c.lookupIn(db, key)
	if c.counting && !c.Replay {
		if o != nil {
			c.KS.Hits++
		} else {
			c.KS.Misses++
		}
	}
	return o
}

func (c *Ctx) lookupIn(db *keyspace.DB, key []byte) *keyspace.Object {
	o := db.Get(key)
	if o == nil {
		return nil
	}
	if at := o.ExpireAt(); at != 0 && at <= c.Now && !c.Replay {
		if !c.ReplicaRole {
			c.expire(db, o)
		}
		return nil
	}
	return o
}

func (c *Ctx) expire(db *keyspace.DB, o *keyspace.Object) {
	verb := "DEL"
	if c.Conf.LazyfreeExpire {
		verb = "UNLINK"
	}
	key := []byte(o.Key())
	db.Delete(key)
	db.CountExpired()
	c.NotifyIn(db, EventExpired, "expired", key)
	changed := c.changed
	if db != c.DB {
		c.selectEffect(db)
	}
	c.implicitEffect([]byte(verb), key)
	if db != c.DB {
		c.selectEffect(c.DB)
	}
	c.changed = changed
}

func (c *Ctx) selectEffect(db *keyspace.DB) {
	c.implicitEffect([]byte("SELECT"), strconv.AppendInt(nil, int64(db.Index()), 10))
}

// LookupType is Lookup for a command that wants one type. ok is false if the key holds another type: WRONGTYPE has then
// been replied. With ok the object may still be nil.
func (c *Ctx) LookupType(key []byte, t keyspace.Type) (o *keyspace.Object, ok bool) {
	o = c.Lookup(key)
	if o != nil && o.Type() != t {
		c.W.Error(reply.WrongType)
		return nil, false
	}
	return o, true
}

// DeleteIfEmpty removes the key of a collection that has no element left.
func (c *Ctx) DeleteIfEmpty(o *keyspace.Object) bool {
	if o.Type() == keyspace.TypeString || o.Len() > 0 {
		return false
	}
	c.deleteObject(o)
	return true
}

// deleteObject removes a key and tells of it.
func (c *Ctx) deleteObject(o *keyspace.Object) {
	c.DB.DeleteObject(o)
	if c.events&EventGeneric != 0 {
		c.note(c.DB, "del", []byte(o.Key()))
	}
}

// Block parks the client until one of keys gets an element (the engine runs the handler again) or the time is up.
// REQUIRES: BlockAllowed, nothing replied, nothing changed.
func (c *Ctx) Block(keys [][]byte, timeoutMs int64) {
	c.block = BlockRequest{Wanted: true, Keys: keys, TimeoutMs: timeoutMs}
}

// BlockAllowed tells whether the client may be parked: not inside MULTI, scripts and replay.
func (c *Ctx) BlockAllowed() bool { return !c.noBlock && !c.Replay }

// BlockWanted returns what the handler asked for by Block.
func (c *Ctx) BlockWanted() *BlockRequest { return &c.block }

// Config returns the narrow configuration.
func (c *Ctx) Config() *Config { return c.Conf }

// ParseInt parses b as Redis's string2ll does: canonical decimal int64 only. On failure it replies NotInt.
func (c *Ctx) ParseInt(b []byte) (int64, bool) {
	n, ok := ParseInt(b)
	if !ok {
		c.W.Error(reply.NotInt)
	}
	return n, ok
}

// ParseFloat parses b as Redis's getDoubleFromObject does: what is too small for any double but 0, and is not 0, is
// refused. On failure it replies NotFloat.
func (c *Ctx) ParseFloat(b []byte) (float64, bool) {
	f, ok := ParseFloat(b)
	if !ok || f == 0 && !zeroMantissa(b) {
		c.W.Error(reply.NotFloat)
		return 0, false
	}
	return f, true
}

// zeroMantissa tells whether all digits of a number before its exponent are 0. REQUIRES: b is a number.
func zeroMantissa(b []byte) bool {
	hex := hasHexPrefix(string(b))
	for _, ch := range b {
		switch {
		case !hex && ch|0x20 == 'e', hex && ch|0x20 == 'p':
			return true
		case ch >= '1' && ch <= '9', hex && ch|0x20 >= 'a' && ch|0x20 <= 'f':
			return false
		}
	}
	return true
}

// ParseInt parses the canonical decimal form of an int64: no sign but '-', no leading zeros, no spaces.
func ParseInt(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	d, neg := b, false
	if b[0] == '-' {
		d, neg = b[1:], true
		if len(d) == 0 {
			return 0, false
		}
	}
	if d[0] == '0' {
		return 0, len(b) == 1
	}
	var u uint64
	for _, ch := range d {
		x := uint64(ch - '0')
		if ch < '0' || ch > '9' || u > (math.MaxUint64-x)/10 {
			return 0, false
		}
		u = u*10 + x
	}
	if neg {
		if u > 1<<63 {
			return 0, false
		}
		return -int64(u), true
	}
	if u > math.MaxInt64 {
		return 0, false
	}
	return int64(u), true
}

// ParseFloat parses a double as Redis does with strtod: decimal, hexadecimal, inf and infinity in any case; no NaN, no
// leading or trailing space, not empty, no underscores.
func ParseFloat(b []byte) (float64, bool) {
	if len(b) == 0 || len(b) > 400 {
		return 0, false
	}
	digits := false
	for _, ch := range b {
		if ch == '_' || ch == ' ' || (ch >= '\t' && ch <= '\r') {
			return 0, false
		}
		digits = digits || (ch >= '0' && ch <= '9')
	}
	s := string(b)
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		if ne, ok := err.(*strconv.NumError); ok && ne.Err == strconv.ErrRange {
			// strtod sets ERANGE for overflow and Redis refuses it; underflow to a denormal or 0 passes.
			if math.IsInf(f, 0) {
				return 0, false
			}
			return f, true
		}
		// strtod takes a hexadecimal mantissa without an exponent; Go wants one.
		if len(s) > 2 && digits && hasHexPrefix(s) {
			if f, err = strconv.ParseFloat(s+"p0", 64); err == nil {
				return f, true
			}
		}
		return 0, false
	}
	if math.IsNaN(f) {
		return 0, false
	}
	return f, true
}

func hasHexPrefix(s string) bool {
	if s[0] == '-' || s[0] == '+' {
		s = s[1:]
	}
	return len(s) > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X')
}
