package snapshot

import (
	"encoding/json"
	"fmt"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/wal"
)

// formatVersion is the version of the rows and of the meta row. A change of either raises it, so that an older program
// refuses the directory instead of misreading it.
const formatVersion = 2

// plainFormat is the version that is written as long as no field of a hash has an expiry: such rows are all that version 2 added, and
// without them an older program may open the directory.
const plainFormat = 1

// metaKey is the key of the meta row. It sorts before all others, so that its table overlaps no other of an ingest.
var metaKey = []byte{keyspace.TagMeta}

// Meta is the meta row: where the store stands, and how its databases are laid out.
type Meta struct {
	Format     int // set by Commit
	C          wal.Offset
	SelectedDB int // database selected in the stream at C
	DBs        []DBMeta
	NextPhys   uint32 // newest physical id given
	NextOID    uint64 // identity of the next big collection; all rows have smaller ones
	ReplID     string
	Lineage    []byte // of the log at C; opaque here
	CreatedMs  int64  // unix ms of the checkpoint; 0: none yet
}

// DBMeta is one logical database.
type DBMeta struct {
	Logical       int
	Phys          uint32
	Keys, Expires int64 // main rows, and those of them with an expiry
	Timed         int64 `json:",omitempty"` // main rows of hashes with fields that expire
}

// emptyMeta is where a store stands that no checkpoint has entered yet.
func emptyMeta() Meta { return Meta{Format: plainFormat, NextOID: 1} }

// format returns the lowest version that holds the rows.
func (m *Meta) format() int {
	for _, d := range m.DBs {
		if d.Timed > 0 {
			return formatVersion
		}
	}
	return plainFormat
}

// validate finds what contradicts itself. It runs before a meta row is written and after one is read.
func (m *Meta) validate() error {
	bad := func(format string, args ...any) error {
		return &CorruptionError{What: "meta row: " + fmt.Sprintf(format, args...)}
	}
	if m.C < 0 {
		return bad("offset %d", m.C)
	}
	if m.SelectedDB < 0 {
		return bad("selected database %d", m.SelectedDB)
	}
	logical, phys := map[int]bool{}, map[uint32]bool{}
	for _, d := range m.DBs {
		switch {
		case d.Logical < 0 || logical[d.Logical]:
			return bad("database %d stands there twice or is negative", d.Logical)
		case phys[d.Phys]:
			return bad("databases share the physical id %d", d.Phys)
		case d.Phys > m.NextPhys:
			return bad("database %d has the physical id %d, the newest given is %d", d.Logical, d.Phys, m.NextPhys)
		case d.Keys < 0 || d.Expires < 0 || d.Expires > d.Keys:
			return bad("database %d has %d keys, %d with an expiry", d.Logical, d.Keys, d.Expires)
		case d.Timed < 0 || d.Timed > d.Keys:
			return bad("database %d has %d keys, %d with fields that expire", d.Logical, d.Keys, d.Timed)
		}
		logical[d.Logical], phys[d.Phys] = true, true
	}
	return nil
}

func encodeMeta(m Meta) ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

// decodeMeta returns ErrFormat for another version, *CorruptionError for what cannot be.
func decodeMeta(v []byte) (Meta, error) {
	// The version first: a newer one may have changed everything else.
	var f struct{ Format int }
	if err := json.Unmarshal(v, &f); err != nil {
		return Meta{}, &CorruptionError{"meta row", err}
	}
	if f.Format < plainFormat || f.Format > formatVersion {
		return Meta{}, fmt.Errorf("%w: %d, this program reads %d to %d", ErrFormat, f.Format, plainFormat, formatVersion)
	}
	var m Meta
	if err := json.Unmarshal(v, &m); err != nil {
		return Meta{}, &CorruptionError{"meta row", err}
	}
	return m, m.validate()
}

// loadMeta reads the meta row at open. A directory with rows but without it was never written by this program.
func (s *Store) loadMeta() (err error) {
	v, ok, err := s.Get(metaKey)
	if err != nil {
		return err
	}
	m := emptyMeta()
	if ok {
		if m, err = decodeMeta(v); err != nil {
			return err
		}
	} else {
		it, err := s.NewIter(nil, nil)
		if err != nil {
			return err
		}
		rows := it.First()
		if err := it.Close(); err != nil {
			return err
		}
		if rows {
			return &CorruptionError{What: "rows without a meta row (S2)"}
		}
	}
	s.mu.meta = m
	return nil
}

// Meta returns the meta row as of the newest ingest. The caller must not change its slices.
func (s *Store) Meta() Meta {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.meta
}
