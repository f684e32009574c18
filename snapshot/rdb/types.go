package rdb

import (
	"errors"
	"fmt"
)

// Version is the RDB version we write: the lowest one that holds our data, as loaders refuse what is newer than they are.
const Version = 9

// FieldTTLVersion is what we write instead where fields of a hash expire: Redis has forms for them from 7.4 on.
const FieldTTLVersion = 12

// MaxFieldExpire is the latest time in unix ms at which a field of a hash may expire, Redis's EB_EXPIRE_TIME_MAX; loaders refuse
// a later one.
const MaxFieldExpire = 1<<48 - 1

// MaxVersion is the newest RDB version we read (Redis 7.4).
const MaxVersion = 12

// Type is the byte that opens a value (RDB_TYPE_* in Redis's rdb.h).
type Type byte

// The types of values.
const (
	TypeString           Type = 0
	TypeList             Type = 1
	TypeSet              Type = 2
	TypeZSet             Type = 3 // scores as ASCII
	TypeHash             Type = 4
	TypeZSet2            Type = 5 // scores as IEEE doubles
	TypeModule           Type = 6 // never released
	TypeModule2          Type = 7
	TypeHashZipmap       Type = 9
	TypeListZiplist      Type = 10
	TypeSetIntset        Type = 11
	TypeZSetZiplist      Type = 12
	TypeHashZiplist      Type = 13
	TypeListQuicklist    Type = 14
	TypeStreamListpacks  Type = 15
	TypeHashListpack     Type = 16
	TypeZSetListpack     Type = 17
	TypeListQuicklist2   Type = 18
	TypeStreamListpacks2 Type = 19
	TypeSetListpack      Type = 20
	TypeStreamListpacks3 Type = 21
	TypeHashMetadataRC   Type = 22 // 7.4 release candidates; Valkey 9 gives the number another meaning in files of its own
	TypeHashListpackExRC Type = 23
	TypeHashMetadata     Type = 24
	TypeHashListpackEx   Type = 25
)

// Kind is the Redis type that a value has whatever its encoding. The numbers are Redis's OBJ_*, which DEBUG DIGEST mixes in.
type Kind byte

// The kinds of values.
const (
	KindString Kind = 0
	KindList   Kind = 1
	KindSet    Kind = 2
	KindZSet   Kind = 3
	KindHash   Kind = 4
	KindModule Kind = 5
	KindStream Kind = 6
)

var types = map[Type]struct {
	kind Kind
	name string
}{
	TypeString: {KindString, "string"}, TypeList: {KindList, "list"}, TypeSet: {KindSet, "set"},
	TypeZSet: {KindZSet, "zset"}, TypeHash: {KindHash, "hash"}, TypeZSet2: {KindZSet, "zset-2"},
	TypeModule: {KindModule, "module"}, TypeModule2: {KindModule, "module-2"},
	TypeHashZipmap: {KindHash, "hash-zipmap"}, TypeListZiplist: {KindList, "list-ziplist"},
	TypeSetIntset: {KindSet, "set-intset"}, TypeZSetZiplist: {KindZSet, "zset-ziplist"},
	TypeHashZiplist: {KindHash, "hash-ziplist"}, TypeListQuicklist: {KindList, "quicklist"},
	TypeStreamListpacks: {KindStream, "stream"}, TypeHashListpack: {KindHash, "hash-listpack"},
	TypeZSetListpack: {KindZSet, "zset-listpack"}, TypeListQuicklist2: {KindList, "quicklist-2"},
	TypeStreamListpacks2: {KindStream, "stream-2"}, TypeSetListpack: {KindSet, "set-listpack"},
	TypeStreamListpacks3: {KindStream, "stream-3"}, TypeHashMetadataRC: {KindHash, "hash-metadata-rc"},
	TypeHashListpackExRC: {KindHash, "hash-listpack-ex-rc"}, TypeHashMetadata: {KindHash, "hash-metadata"},
	TypeHashListpackEx: {KindHash, "hash-listpack-ex"},
}

// kinds is what Kind looks up for every key of a file: the kind and one, 0 for no type.
var kinds = func() (k [256]Kind) {
	for t, e := range types {
		k[t] = e.kind + 1
	}
	return k
}()

// Kind returns the kind of t's values; ok is false for a type that no supported version has.
func (t Type) Kind() (k Kind, ok bool) {
	if k = kinds[t]; k == 0 {
		return 0, false
	}
	return k - 1, true
}

func (t Type) String() string {
	if e, ok := types[t]; ok {
		return e.name
	}
	return fmt.Sprintf("type-%d", byte(t))
}

// Errors of decoding, to be tested with errors.Is.
var (
	// ErrCorrupt is wrapped by every error about malformed bytes.
	ErrCorrupt = errors.New("rdb: corrupt")
	// ErrTruncated is an ErrCorrupt: the input ends inside of a record.
	ErrTruncated = fmt.Errorf("%w: truncated", ErrCorrupt)
	// ErrChecksum is an ErrCorrupt: the CRC64 does not match.
	ErrChecksum = fmt.Errorf("%w: checksum mismatch", ErrCorrupt)
	// ErrEmpty is an ErrCorrupt: a collection without elements. RESTORE refuses it; in a file Redis passes over such a key,
	// as old versions have written some.
	ErrEmpty = fmt.Errorf("%w: empty collection", ErrCorrupt)
	// ErrVersion says that the input is from a newer version than MaxVersion, or no RDB at all.
	ErrVersion = errors.New("rdb: unsupported version")
)

// ErrUnsupportedType says that a well-known or unknown type cannot be decoded (streams, modules).
type ErrUnsupportedType struct {
	Type Type
	Name string
}

func (e *ErrUnsupportedType) Error() string { return "rdb: unsupported type " + e.Name }

func unsupported(t Type) error { return &ErrUnsupportedType{Type: t, Name: t.String()} }

func corrupt(what string) error { return fmt.Errorf("%w: %s", ErrCorrupt, what) }
