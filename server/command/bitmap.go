package command

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

// parseBitOffset parses the offset of a bit; with hash, "#n" counts in units of width.
func (c *Ctx) parseBitOffset(b []byte, hash bool, width int) (int64, bool) {
	usehash := hash && len(b) > 0 && b[0] == '#'
	if usehash {
		b = b[1:]
	}
	n, ok := ParseInt(b)
	if ok && usehash {
		if n > math.MaxInt64/int64(width) {
			ok = false
		}
		n *= int64(width)
	}
	if !ok || n < 0 || !c.Replay && n>>3 >= c.Conf.ProtoMaxBulkLen {
		c.W.Error(reply.BitOffset)
		return 0, false
	}
	return n, true
}

// stringOfLength makes the string at key at least n bytes long and returns it, ready to be changed in place.
func (c *Ctx) stringOfLength(key []byte, o *keyspace.Object, n int) *keyspace.Object {
	if o == nil {
		o = c.DB.SetString(key, nil, false)
	}
	if o.Len() < n {
		c.DB.SetRange(o, n-1, []byte{0})
	}
	return o
}

func cmdSetBit(c *Ctx) {
	off, ok := c.parseBitOffset(c.Args[2], false, 0)
	if !ok {
		return
	}
	bit, ok := ParseInt(c.Args[3])
	if !ok || bit&^1 != 0 {
		c.W.Error(reply.BitNotBit)
		return
	}
	v, o, ok := c.lookupString(c.Args[1])
	if !ok {
		return
	}
	i := int(off >> 3)
	mask := byte(1) << (7 - off&7)
	var old byte
	if i < len(v) {
		old = v[i]
	}
	if i >= len(v) || (old&mask != 0) != (bit == 1) {
		o = c.stringOfLength(c.Args[1], o, i+1)
		b := old &^ mask
		if bit == 1 {
			b |= mask
		}
		c.DB.SetRange(o, i, []byte{b})
		c.Notify(EventString, "setbit", c.Args[1])
		c.Changed()
	}
	if old&mask != 0 {
		c.W.Int(1)
	} else {
		c.W.Int(0)
	}
}

func cmdGetBit(c *Ctx) {
	off, ok := c.parseBitOffset(c.Args[2], false, 0)
	if !ok {
		return
	}
	v, _, ok := c.lookupString(c.Args[1])
	if !ok {
		return
	}
	if i := int(off >> 3); i < len(v) && v[i]&(1<<(7-off&7)) != 0 {
		c.W.Int(1)
	} else {
		c.W.Int(0)
	}
}

func popcount(p []byte) (n int64) {
	for ; len(p) >= 8; p = p[8:] {
		n += int64(bits.OnesCount64(binary.LittleEndian.Uint64(p)))
	}
	for _, b := range p {
		n += int64(bits.OnesCount8(b))
	}
	return n
}

// bitRange turns start and end, in bytes or bits, into a range of bits; empty if first > last.
func bitRange(start, end int64, inBits bool, length int) (first, last int64) {
	total := int64(length)
	if inBits {
		total <<= 3
	}
	if start < 0 {
		start = max(start+total, 0)
	}
	if end < 0 {
		end = max(end+total, 0)
	}
	end = min(end, total-1)
	if start > end {
		return 1, 0
	}
	if inBits {
		return start, end
	}
	return start << 3, end<<3 + 7
}

func (c *Ctx) parseBitUnit(b []byte) (inBits, ok bool) {
	switch {
	case equalFold(b, "bit"):
		return true, true
	case equalFold(b, "byte"):
		return false, true
	}
	c.W.Error(reply.Syntax)
	return false, false
}

func cmdBitCount(c *Ctx) {
	start, end, inBits := int64(0), int64(-1), false
	// As in Redis a key that does not exist counts 0 before its arguments are looked at.
	v, o, ok := c.lookupString(c.Args[1])
	if !ok {
		return
	}
	if o == nil {
		c.W.Int(0)
		return
	}
	if len(c.Args) != 2 && len(c.Args) != 4 && len(c.Args) != 5 {
		c.W.Error(reply.Syntax)
		return
	}
	if len(c.Args) >= 4 {
		if start, ok = c.ParseInt(c.Args[2]); !ok {
			return
		}
		if end, ok = c.ParseInt(c.Args[3]); !ok {
			return
		}
		if start < 0 && end < 0 && start > end {
			c.W.Int(0) // before the unit is looked at, as in Redis
			return
		}
		if len(c.Args) == 5 {
			if inBits, ok = c.parseBitUnit(c.Args[4]); !ok {
				return
			}
		}
	}
	first, last := bitRange(start, end, inBits, len(v))
	if first > last {
		c.W.Int(0)
		return
	}
	i, j := first>>3, last>>3
	n := popcount(v[i : j+1])
	n -= int64(bits.OnesCount8(v[i] &^ (0xff >> (first & 7))))
	n -= int64(bits.OnesCount8(v[j] & byte(0xff>>(last&7+1))))
	c.W.Int(n)
}

func cmdBitPos(c *Ctx) {
	bit, ok := c.ParseInt(c.Args[2])
	if !ok {
		return
	}
	if bit != 0 && bit != 1 {
		c.W.Error(reply.BitPosBit)
		return
	}
	v, o, ok := c.lookupString(c.Args[1])
	if !ok {
		return
	}
	if o == nil {
		c.W.Int(-bit)
		return
	}
	start, end, inBits, endGiven := int64(0), int64(-1), false, false
	switch len(c.Args) {
	case 3:
	case 4, 5, 6:
		if start, ok = c.ParseInt(c.Args[3]); !ok {
			return
		}
		if len(c.Args) == 6 {
			if inBits, ok = c.parseBitUnit(c.Args[5]); !ok {
				return
			}
		}
		if len(c.Args) >= 5 {
			endGiven = true
			if end, ok = c.ParseInt(c.Args[4]); !ok {
				return
			}
		}
	default:
		c.W.Error(reply.Syntax)
		return
	}
	first, last := bitRange(start, end, inBits, len(v))
	if first > last {
		c.W.Int(-1)
		return
	}
	for p := first; p <= last; {
		b := v[p>>3]
		if bit == 0 {
			b = ^b
		}
		b &= 0xff >> (p & 7)
		if b != 0 {
			if at := p&^7 + int64(bits.LeadingZeros8(b)); at <= last {
				c.W.Int(at)
				return
			}
			break
		}
		p = p&^7 + 8
	}
	// A string is followed by clear bits without end, unless the range was given one.
	if bit == 0 && !endGiven {
		c.W.Int(int64(len(v)) << 3)
		return
	}
	c.W.Int(-1)
}

func cmdBitOp(c *Ctx) {
	op, dst, srcs := c.Args[1], c.Args[2], c.Args[3:]
	var kind int
	switch {
	case equalFold(op, "and"):
		kind = 0
	case equalFold(op, "or"):
		kind = 1
	case equalFold(op, "xor"):
		kind = 2
	case equalFold(op, "not"):
		kind = 3
		if len(srcs) != 1 {
			c.W.Error(reply.BitOpNot)
			return
		}
	default:
		c.W.Error(reply.Syntax)
		return
	}
	values := make([][]byte, len(srcs))
	longest := 0
	c.counting = true
	for i, k := range srcs {
		v, _, ok := c.lookupString(k)
		if !ok {
			return
		}
		values[i] = v
		longest = max(longest, len(v))
	}
	c.counting = false
	if longest == 0 {
		if o := c.DB.Get(dst); o != nil {
			c.deleteObject(o)
			c.Effect(verbDel, dst)
		}
		c.W.Int(0)
		return
	}
	out := make([]byte, longest)
	copy(out, values[0])
	if kind == 3 {
		for i := range out {
			out[i] = ^out[i]
		}
	}
	for _, v := range values[1:] {
		switch kind {
		case 0:
			for i := range out {
				if i < len(v) {
					out[i] &= v[i]
				} else {
					out[i] = 0
				}
			}
		case 1:
			for i := range v {
				out[i] |= v[i]
			}
		case 2:
			for i := range v {
				out[i] ^= v[i]
			}
		}
	}
	c.Lookup(dst)
	c.DB.SetRaw(c.DB.SetString(dst, out, false))
	c.Notify(EventString, "set", dst)
	c.Changed()
	c.W.Int(int64(longest))
}

// --- BITFIELD

type overflowMode uint8

const (
	overflowWrap overflowMode = iota
	overflowSat
	overflowFail
)

type bitfieldOp struct {
	kind     byte // 'g', 's', 'i'
	signed   bool
	width    int
	off      int64
	value    int64
	overflow overflowMode
}

func cmdBitField(c *Ctx)   { c.bitfield(false) }
func cmdBitFieldRO(c *Ctx) { c.bitfield(true) }

func (c *Ctx) parseBitfieldType(b []byte) (signed bool, width int, ok bool) {
	if len(b) > 1 && (b[0] == 'i' || b[0] == 'u') {
		if n, good := ParseInt(b[1:]); good && n >= 1 && (b[0] == 'i' && n <= 64 || b[0] == 'u' && n <= 63) {
			return b[0] == 'i', int(n), true
		}
	}
	c.W.Error(reply.BitFieldType)
	return false, 0, false
}

// parseBitfield parses Args[2:]. highest is the last bit that an operation writes, -1 if none does.
func (c *Ctx) parseBitfield() (ops []bitfieldOp, highest int64, ok bool) {
	mode := overflowWrap
	highest = -1
	for i := 2; i < len(c.Args); i++ {
		left := len(c.Args) - i - 1
		var op bitfieldOp
		switch sub := c.Args[i]; {
		case equalFold(sub, "get") && left >= 2:
			op.kind = 'g'
		case equalFold(sub, "set") && left >= 3:
			op.kind = 's'
		case equalFold(sub, "incrby") && left >= 3:
			op.kind = 'i'
		case equalFold(sub, "overflow") && left >= 1:
			i++
			switch o := c.Args[i]; {
			case equalFold(o, "wrap"):
				mode = overflowWrap
			case equalFold(o, "sat"):
				mode = overflowSat
			case equalFold(o, "fail"):
				mode = overflowFail
			default:
				c.W.Error(reply.BitFieldOverflow)
				return nil, 0, false
			}
			continue
		default:
			c.W.Error(reply.Syntax)
			return nil, 0, false
		}
		if op.signed, op.width, ok = c.parseBitfieldType(c.Args[i+1]); !ok {
			return nil, 0, false
		}
		if op.off, ok = c.parseBitOffset(c.Args[i+2], true, op.width); !ok {
			return nil, 0, false
		}
		i += 2
		op.overflow = mode
		if op.kind != 'g' {
			i++
			if op.value, ok = c.ParseInt(c.Args[i]); !ok {
				return nil, 0, false
			}
			highest = max(highest, op.off+int64(op.width)-1)
		}
		ops = append(ops, op)
	}
	return ops, highest, true
}

func (c *Ctx) bitfield(readonly bool) {
	ops, highest, ok := c.parseBitfield()
	if !ok {
		return
	}
	if readonly && highest >= 0 {
		c.W.Error(reply.BitFieldROOnlyGet)
		return
	}
	c.counting = highest < 0
	v, o, ok := c.lookupString(c.Args[1])
	if !ok {
		return
	}
	if highest >= 0 {
		need := int(highest>>3) + 1
		if len(v) < need {
			o = c.stringOfLength(c.Args[1], o, need)
			c.Changed()
		}
	}
	c.W.Array(len(ops))
	for _, op := range ops {
		var cur []byte
		if o != nil {
			cur = o.String()
		}
		old := readBits(cur, op.off, op.width)
		if op.signed {
			old = old << (64 - op.width)
			old = uint64(int64(old) >> (64 - op.width))
		}
		if op.kind == 'g' {
			c.W.Int(int64(old))
			continue
		}
		var next, answer int64
		var over bool
		if op.kind == 's' {
			next, over = fitBits(op.value, 0, op)
			answer = int64(old)
		} else {
			next, over = fitBits(int64(old), op.value, op)
			answer = next
		}
		if over && op.overflow == overflowFail {
			c.W.Null()
			continue
		}
		// Both are extended to 64 bits in the same way. Writing what is there already is no change, as in Redis.
		if uint64(next) != old {
			c.writeBits(o, op.off, op.width, uint64(next))
			c.Changed()
		}
		c.W.Int(answer)
	}
	if c.changed {
		c.Notify(EventString, "setbit", c.Args[1])
	}
}

// readBits returns width bits from off on, those behind the string's end being clear.
func readBits(v []byte, off int64, width int) (n uint64) {
	for i := range int64(width) {
		p := off + i
		n <<= 1
		if int(p>>3) < len(v) && v[p>>3]&(1<<(7-p&7)) != 0 {
			n |= 1
		}
	}
	return n
}

func (c *Ctx) writeBits(o *keyspace.Object, off int64, width int, n uint64) {
	first, last := off>>3, (off+int64(width)-1)>>3
	var buf [9]byte
	b := buf[:last-first+1]
	copy(b, o.String()[first:])
	for i := range width {
		p := off - first<<3 + int64(i)
		mask := byte(1) << (7 - p&7)
		if n&(1<<(width-1-i)) != 0 {
			b[p>>3] |= mask
		} else {
			b[p>>3] &^= mask
		}
	}
	c.DB.SetRange(o, int(first), b)
}

// fitBits adds incr to value within the field's width and tells whether that overflowed; the result is wrapped or
// saturated as the operation asks.
func fitBits(value, incr int64, op bitfieldOp) (n int64, over bool) {
	w := op.width
	if op.signed {
		hi := int64(math.MaxInt64)
		if w < 64 {
			hi = 1<<(w-1) - 1
		}
		lo := -hi - 1
		sum := value + incr
		up := value > hi || incr > 0 && value >= 0 && incr > hi-value || incr > 0 && value < 0 && sum > hi
		down := value < lo || incr < 0 && value < 0 && incr < lo-value || incr < 0 && value >= 0 && sum < lo
		switch {
		case !up && !down:
			return sum, false
		case op.overflow == overflowSat && up:
			return hi, true
		case op.overflow == overflowSat:
			return lo, true
		}
		u := uint64(sum) << (64 - w)
		return int64(u) >> (64 - w), true
	}
	hi := uint64(1)<<w - 1
	uv := uint64(value)
	sum := uv + uint64(incr)
	up := uv > hi || incr > 0 && uint64(incr) > hi-uv
	down := incr < 0 && uint64(-incr) > uv
	switch {
	case !up && !down:
		return int64(sum), false
	case op.overflow == overflowSat && up:
		return int64(hi), true
	case op.overflow == overflowSat:
		return 0, true
	}
	return int64(sum & hi), true
}
