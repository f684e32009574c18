package rdb

import (
	"math"
	"strconv"
)

// Sink receives a decoded value: String alone, or Begin, elements and End. Slices are valid only during the call.
// An error ends decoding and is returned as it is.
type Sink interface {
	String(v []byte) error
	// Begin opens a list, set, hash or zset; n is a hint of its size, never more than the payload could hold, 0 = unknown.
	Begin(k Kind, n int) error
	Element(v []byte) error // of a list or set
	Field(f, v []byte) error
	FieldTTL(f, v []byte, expireMs int64) error // a hash field that expires at that unix time in ms
	Member(m []byte, score float64) error
	End() error
}

// DecodeValue feeds the value of type t at the start of payload (which follows the type byte) to sink and returns what
// comes after it. Errors: *ErrUnsupportedType, ErrCorrupt (ErrEmpty, ErrTruncated), or sink's. Duplicate elements and empty collections are
// corrupt, as for Redis's RESTORE; the sink may have received elements before the error.
func DecodeValue(t Type, payload []byte, sink Sink) (rest []byte, err error) {
	return decodeBytes(t, payload, sink, true)
}

// DecodeTrusted is DecodeValue without the search for duplicates, which costs a map entry for each element: for values
// that this process wrote itself and that a checksum protects.
func DecodeTrusted(t Type, payload []byte, sink Sink) (rest []byte, err error) {
	return decodeBytes(t, payload, sink, false)
}

func decodeBytes(t Type, payload []byte, sink Sink, unique bool) ([]byte, error) {
	if t == TypeString { // most keys of most files: without a decoder, which would be an allocation
		s := source{b: payload}
		v, err := s.str()
		if err == nil {
			err = sink.String(v)
		}
		if err != nil {
			return nil, err
		}
		return payload[s.pos:], nil
	}
	d := decoder{s: source{b: payload}, sink: sink}
	if k, ok := t.Kind(); ok && unique && k != KindString && k != KindList {
		d.seen = make(map[string]struct{})
	}
	if err := d.value(t); err != nil {
		return nil, err
	}
	return payload[d.s.pos:], nil
}

type decoder struct {
	s     source
	sink  Sink
	seen  map[string]struct{} // nil: duplicates are not looked for
	count int                 // elements delivered
}

func (d *decoder) value(t Type) error {
	k, ok := t.Kind()
	body := bodies[t]
	if !ok || body == nil {
		return unsupported(t)
	}
	if err := body(d, k); err != nil {
		return err
	}
	if d.count == 0 {
		return ErrEmpty
	}
	return d.sink.End()
}

// bodies holds how each collection type is decoded; a type without an entry is unsupported.
var bodies = map[Type]func(*decoder, Kind) error{
	TypeList:           (*decoder).plain,
	TypeSet:            (*decoder).plain,
	TypeHash:           (*decoder).plain,
	TypeZSet:           func(d *decoder, _ Kind) error { return d.zset((*source).asciiDouble, 2) },
	TypeZSet2:          func(d *decoder, _ Kind) error { return d.zset((*source).double, 9) },
	TypeHashZipmap:     func(d *decoder, k Kind) error { return d.blob(k, zipmap) },
	TypeListZiplist:    func(d *decoder, k Kind) error { return d.blob(k, ziplist) },
	TypeSetIntset:      func(d *decoder, k Kind) error { return d.blob(k, intset) },
	TypeZSetZiplist:    func(d *decoder, k Kind) error { return d.blob(k, ziplist) },
	TypeHashZiplist:    func(d *decoder, k Kind) error { return d.blob(k, ziplist) },
	TypeHashListpack:   func(d *decoder, k Kind) error { return d.blob(k, listpack) },
	TypeZSetListpack:   func(d *decoder, k Kind) error { return d.blob(k, listpack) },
	TypeSetListpack:    func(d *decoder, k Kind) error { return d.blob(k, listpack) },
	TypeListQuicklist:  func(d *decoder, _ Kind) error { return d.quicklist(false) },
	TypeListQuicklist2: func(d *decoder, _ Kind) error { return d.quicklist(true) },
	TypeHashMetadata:   func(d *decoder, _ Kind) error { return d.hashMetadata(true) },
	TypeHashListpackEx: func(d *decoder, _ Kind) error { return d.hashListpackEx(true) },

	TypeHashMetadataRC:   func(d *decoder, _ Kind) error { return d.hashMetadata(false) },
	TypeHashListpackExRC: func(d *decoder, _ Kind) error { return d.hashListpackEx(false) },
}

// hint bounds an announced count by what the remaining bytes can hold at least bytes for each element.
func (d *decoder) hint(n uint64, least int) int { return int(min(n, uint64(d.s.left()/least))) }

func (d *decoder) once(e []byte) error {
	d.count++
	if d.seen == nil {
		return nil
	}
	if _, dup := d.seen[string(e)]; dup {
		return corrupt("duplicate element")
	}
	d.seen[string(e)] = struct{}{}
	return nil
}

func (d *decoder) element(e []byte) error {
	if err := d.once(e); err != nil {
		return err
	}
	return d.sink.Element(e)
}

func (d *decoder) field(f, v []byte, expireMs int64) error {
	if err := d.once(f); err != nil {
		return err
	}
	if expireMs != 0 {
		return d.sink.FieldTTL(f, v, expireMs)
	}
	return d.sink.Field(f, v)
}

func (d *decoder) member(m []byte, score float64) error {
	if math.IsNaN(score) {
		return corrupt("score is not a number")
	}
	if err := d.once(m); err != nil {
		return err
	}
	return d.sink.Member(m, score)
}

func (d *decoder) plain(k Kind) error {
	n, err := d.s.len()
	if err != nil {
		return err
	}
	least := 1
	if k == KindHash {
		least = 2
	}
	if err := d.sink.Begin(k, d.hint(n, least)); err != nil {
		return err
	}
	for ; n > 0; n-- {
		e, err := d.s.str()
		if err != nil {
			return err
		}
		if k != KindHash {
			err = d.element(e)
		} else if v, verr := d.s.str(); verr != nil {
			err = verr
		} else {
			err = d.field(e, v, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) zset(score func(*source) (float64, error), least int) error {
	n, err := d.s.len()
	if err != nil {
		return err
	}
	if err := d.sink.Begin(KindZSet, d.hint(n, least)); err != nil {
		return err
	}
	for ; n > 0; n-- {
		m, err := d.s.str()
		if err != nil {
			return err
		}
		f, err := score(&d.s)
		if err != nil {
			return err
		}
		if err := d.member(m, f); err != nil {
			return err
		}
	}
	return nil
}

// blob decodes a collection that is one packed string.
func (d *decoder) blob(k Kind, split func([]byte) (packed, error)) error {
	b, err := d.s.str()
	if err != nil {
		return err
	}
	p, err := split(b)
	if err != nil {
		return err
	}
	if k == KindList || k == KindSet {
		if err := d.sink.Begin(k, len(p)); err != nil {
			return err
		}
		return d.elements(p)
	}
	if len(p)%2 != 0 {
		return corrupt("odd number of entries")
	}
	if err := d.sink.Begin(k, len(p)/2); err != nil {
		return err
	}
	for ; len(p) > 0; p = p[2:] {
		if k == KindHash {
			err = d.field(p[0], p[1], 0)
		} else if f, ferr := parseScore(p[1]); ferr != nil {
			err = ferr
		} else {
			err = d.member(p[0], f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) elements(p packed) error {
	for _, e := range p {
		if err := d.element(e); err != nil {
			return err
		}
	}
	return nil
}

// quicklist decodes a list of nodes: ziplists, or with v2 {container (1 = one raw element, 2 = listpack), string}.
func (d *decoder) quicklist(v2 bool) error {
	n, err := d.s.len()
	if err != nil {
		return err
	}
	if err := d.sink.Begin(KindList, 0); err != nil {
		return err
	}
	for ; n > 0; n-- {
		split, container := ziplist, uint64(2)
		if v2 {
			split = listpack
			if container, err = d.s.len(); err != nil {
				return err
			}
		}
		b, err := d.s.str()
		if err != nil {
			return err
		}
		var p packed
		switch container {
		case 1:
			p = packed{b}
		case 2:
			if p, err = split(b); err != nil {
				return err
			}
		default:
			return corrupt("quicklist container")
		}
		if err := d.elements(p); err != nil {
			return err
		}
	}
	return nil
}

// hashMetadata decodes {min expire ms (8 LE), n, n × (ttl, field, value)}; the field expires at ttl + min - 1, 0 = never. Without
// min, as release candidates of 7.4 wrote it, ttl is the time itself.
func (d *decoder) hashMetadata(withMin bool) error {
	base, err := uint64(1), error(nil)
	if withMin {
		base, err = d.s.u64()
	}
	if err != nil {
		return err
	}
	n, err := d.s.len()
	if err != nil {
		return err
	}
	if err := d.sink.Begin(KindHash, d.hint(n, 3)); err != nil {
		return err
	}
	for ; n > 0; n-- {
		ttl, err := d.s.len()
		if err != nil {
			return err
		}
		f, err := d.s.str()
		if err != nil {
			return err
		}
		v, err := d.s.str()
		if err != nil {
			return err
		}
		at := uint64(0)
		if ttl != 0 {
			if at = base + ttl - 1; at == 0 || at > MaxFieldExpire || base > MaxFieldExpire || ttl > MaxFieldExpire+1 {
				return corrupt("field expiry")
			}
		}
		if err := d.field(f, v, int64(at)); err != nil {
			return err
		}
	}
	return nil
}

// hashListpackEx decodes {min expire ms (8 LE), listpack of (field, value, expire ms, 0 = never)}. Release candidates of 7.4 wrote
// no min.
func (d *decoder) hashListpackEx(withMin bool) error {
	if withMin {
		if _, err := d.s.u64(); err != nil {
			return err
		}
	}
	b, err := d.s.str()
	if err != nil {
		return err
	}
	p, err := listpack(b)
	if err != nil {
		return err
	}
	if len(p)%3 != 0 {
		return corrupt("number of entries is no multiple of 3")
	}
	if err := d.sink.Begin(KindHash, len(p)/3); err != nil {
		return err
	}
	for ; len(p) > 0; p = p[3:] {
		at, perr := strconv.ParseInt(string(p[2]), 10, 64)
		if perr != nil || at < 0 || at > MaxFieldExpire {
			return corrupt("field expiry")
		}
		if err := d.field(p[0], p[1], at); err != nil {
			return err
		}
	}
	return nil
}
