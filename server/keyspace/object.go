package keyspace

import "unsafe"

// Type is the kind of value that a key holds.
type Type uint8

// The types, in no order that is written to disk: rows and digests carry numbers of their own.
const (
	TypeNone Type = iota // a tombstone: the key is known not to exist (K3)
	TypeString
	TypeList
	TypeSet
	TypeZSet
	TypeHash
)

// String names the type as TYPE prints it.
func (t Type) String() string {
	switch t {
	case TypeString:
		return "string"
	case TypeList:
		return "list"
	case TypeSet:
		return "set"
	case TypeZSet:
		return "zset"
	case TypeHash:
		return "hash"
	}
	return "none"
}

// Encoding is what OBJECT ENCODING prints: the representation that Redis 7.0 would have chosen by its limits. Clients
// and test suites look at it, so it follows Redis's rules, whatever our own structures look like.
type Encoding uint8

// The encodings. The numbers are stored in rows: append only.
const (
	EncRaw        Encoding = 0
	EncInt        Encoding = 1
	EncEmbstr     Encoding = 2
	EncListpack   Encoding = 3
	EncHashtable  Encoding = 4
	EncIntset     Encoding = 5
	EncQuicklist  Encoding = 6
	EncSkiplist   Encoding = 7
	EncListpackEx Encoding = 8 // a packed hash whose fields expire, as of Redis 7.4
	encodingCount          = 9
)

var encodingNames = [encodingCount]string{"raw", "int", "embstr", "listpack", "hashtable", "intset", "quicklist", "skiplist",
	"listpackex"}

// String names the encoding as OBJECT ENCODING prints it.
func (e Encoding) String() string {
	if int(e) < len(encodingNames) {
		return encodingNames[e]
	}
	return "unknown"
}

// Limits are the thresholds at which Redis changes a collection's encoding. They decide replies of OBJECT ENCODING and
// the order of small hashes, never the data itself (D1).
type Limits struct {
	HashMaxListpackEntries int
	HashMaxListpackValue   int
	SetMaxIntsetEntries    int
	ZSetMaxListpackEntries int
	ZSetMaxListpackValue   int
	ListMaxListpackSize    int
}

// DefaultLimits are those of Redis 7.0.
func DefaultLimits() Limits {
	return Limits{
		HashMaxListpackEntries: 512,
		HashMaxListpackValue:   64,
		SetMaxIntsetEntries:    512,
		ZSetMaxListpackEntries: 128,
		ZSetMaxListpackValue:   64,
		ListMaxListpackSize:    -2,
	}
}

// Object is the entry of one key in memory: a live value, or a tombstone (Type TypeNone).
//
// Millions of these are resident, so the struct is kept to 88 bytes (a Go size class holds 96): one pointer for any
// kind of value, and what few keys have (expiry, row identity) behind ext.
type Object struct {
	next *Object // chain within a bucket of the table
	key  string
	hash uint64
	// p points to the bytes of a string (len and cap in n and c) or to a *List, *Hash, *Set, *ZSet.
	p    unsafe.Pointer
	n, c uint32
	ext  *ext
	// off is one past the start of the newest record that changed this key: durable >= off means that the record is
	// durable, since no chunk splits a record (A1, W2).
	off int64
	// epoch is the checkpoint epoch of the newest change; 0 = clean (K2).
	epoch uint32
	// lru holds the last access in seconds of the keyspace's clock, or LFU data, as Redis's lru field.
	lru   uint32
	size  uint32 // bytes accounted for the value, in units of 16 bytes
	slot  uint16
	typ   Type
	flags objFlags
}

type objFlags uint8

const (
	flagInStore  objFlags = 1 << iota // the store at C has a row for this key
	flagVisited                       // the running checkpoint has taken this object's row
	flagFrozen                        // has changed since the hand-over: Keyspace.frozenOf tells what it was then
	flagPinned                        // loaded for a command that has not run yet: must stay resident (K2)
	flagRaw                           // string was built by APPEND/SETRANGE: OBJECT ENCODING says raw
	flagDetached                      // no longer in the table
	flagPlain                         // of flagFrozen: its row is taken, had no expiry and was all of it, so nothing else is kept
	flagBlind                         // written without a look at what the store has for this key: see blind.go
)

// ext holds what only some objects have.
type ext struct {
	expireAt     int64  // unix ms; 0 = none
	storedExpire int64  // the time of the expiry row that the store has for this key (due); 0 = none
	oid          uint64 // identity of the element rows of a big collection; 0 = none
}

// Key returns the key's name.
func (o *Object) Key() string { return o.key }

// Type returns the type; TypeNone for a tombstone, which handlers never see.
func (o *Object) Type() Type { return o.typ }

// ExpireAt returns the expiry in unix milliseconds, 0 if there is none.
func (o *Object) ExpireAt() int64 {
	if o.ext == nil {
		return 0
	}
	return o.ext.expireAt
}

// String returns the value of a string, read-only and valid until the key's next change.
func (o *Object) String() []byte { return unsafe.Slice((*byte)(o.p), int(o.n)) }

// List returns the value of a list. REQUIRES: Type() == TypeList; the same for the three that follow.
func (o *Object) List() *List { return (*List)(o.p) }

// Hash returns the value of a hash.
func (o *Object) Hash() *Hash { return (*Hash)(o.p) }

// Set returns the value of a set.
func (o *Object) Set() *Set { return (*Set)(o.p) }

// ZSet returns the value of a sorted set.
func (o *Object) ZSet() *ZSet { return (*ZSet)(o.p) }

// Encoding tells what OBJECT ENCODING prints.
func (o *Object) Encoding() Encoding {
	if o.typ == TypeString {
		return stringEncoding(o.String(), o.flags&flagRaw != 0)
	}
	return o.coll().Encoding()
}

// embstrMax is Redis's OBJ_ENCODING_EMBSTR_SIZE_LIMIT.
const embstrMax = 44

func stringEncoding(v []byte, raw bool) Encoding {
	if raw {
		return EncRaw
	}
	if isCanonicalInt(v) {
		return EncInt
	}
	if len(v) <= embstrMax {
		return EncEmbstr
	}
	return EncRaw
}

// isCanonicalInt tells whether v is the shortest decimal form of an int64, the form that Redis keeps as an integer.
func isCanonicalInt(v []byte) bool {
	if len(v) == 0 || len(v) > 20 {
		return false
	}
	d := v
	neg := v[0] == '-'
	if neg {
		d = v[1:]
	}
	if len(d) == 0 {
		return false
	}
	if d[0] == '0' {
		return len(v) == 1
	}
	var u uint64
	for _, c := range d {
		if c < '0' || c > '9' {
			return false
		}
		x := uint64(c - '0')
		if u > (1<<63-x)/10 {
			return false
		}
		u = u*10 + x
	}
	return neg || u < 1<<63
}

func (o *Object) coll() collection {
	switch o.typ {
	case TypeList:
		return o.List()
	case TypeSet:
		return o.Set()
	case TypeZSet:
		return o.ZSet()
	case TypeHash:
		return o.Hash()
	}
	return nil
}

func (o *Object) setBytes(b []byte) {
	o.p = unsafe.Pointer(unsafe.SliceData(b))
	o.n, o.c = uint32(len(b)), uint32(cap(b))
}

// Len returns the number of elements of a collection, the length in bytes of a string.
func (o *Object) Len() int {
	if o.typ == TypeString {
		return int(o.n)
	}
	return o.coll().Len()
}

// storage returns the string's bytes with their whole capacity behind them; none if the bytes are shared with a frozen
// row (c == 0), so that an append copies them (K4).
func (o *Object) storage() []byte {
	if o.c < o.n {
		return unsafe.Slice((*byte)(o.p), int(o.n))
	}
	return unsafe.Slice((*byte)(o.p), int(o.c))[:o.n]
}

func (o *Object) setColl(v any) {
	o.n, o.c = 0, 0
	switch v := v.(type) {
	case *List:
		o.typ, o.p = TypeList, unsafe.Pointer(v)
	case *Hash:
		o.typ, o.p = TypeHash, unsafe.Pointer(v)
	case *Set:
		o.typ, o.p = TypeSet, unsafe.Pointer(v)
	case *ZSet:
		o.typ, o.p = TypeZSet, unsafe.Pointer(v)
	default:
		panic("keyspace: value is not a collection")
	}
}

func (o *Object) extend() *ext {
	if o.ext == nil {
		o.ext = &ext{}
	}
	return o.ext
}

// oid returns the identity of the element rows, 0 if there are none.
func (o *Object) oid() uint64 {
	if o.ext == nil {
		return 0
	}
	return o.ext.oid
}
