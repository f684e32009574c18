package wal

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// LineageEntry is one replication id that this history has had. The bytes from Start to End were written under it.
type LineageEntry struct {
	ID    string // 40 hex digits
	Start Offset
	End   Offset // -1: the current one
}

// idLen is the length of a replication id in characters.
const idLen = 40

func (l *Log) loadLineage() error {
	v, err := get(l.db, lineageKey)
	if err != nil || v == nil {
		return readError(-1, err)
	}
	if err := json.Unmarshal(v, &l.mu.lineage); err != nil {
		return &CorruptionError{-1, fmt.Errorf("lineage: %w", err)}
	}
	return nil
}

// loadBegin returns where a log without chunks stands.
func (l *Log) loadBegin() (Offset, error) {
	v, err := get(l.db, beginKey)
	if err != nil || v == nil {
		return 0, readError(-1, err)
	}
	if len(v) != 8 {
		return 0, &CorruptionError{-1, fmt.Errorf("begin: %x", v)}
	}
	return Offset(binary.BigEndian.Uint64(v)), nil
}

// CheckLineage tells whether entries can be the lineage of a log that ends at end (W3), as Reset demands it.
func CheckLineage(entries []LineageEntry, end Offset) error { return checkLineage(entries, end) }

func checkLineage(entries []LineageEntry, end Offset) error {
	for i, e := range entries {
		last := i == len(entries)-1
		switch {
		case !isID(e.ID):
			return &CorruptionError{e.Start, fmt.Errorf("W3: replication id %q", e.ID)}
		case last && (e.End != -1 || e.Start > end),
			!last && (e.End < e.Start || entries[i+1].Start != e.End):
			return &CorruptionError{e.Start, fmt.Errorf("W3: replication id %s from %d to %d does not fit its neighbours", e.ID, e.Start, e.End)}
		}
	}
	return nil
}

func isID(id string) bool {
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(id) == idLen
}

// Lineage returns all ids, oldest first; the last is the current one.
func (l *Log) Lineage() []LineageEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.mu.lineage)
}

// BeginID ends the current id at the durable end and begins id there, durably (W3). Nothing may be appended meanwhile.
func (l *Log) BeginID(id string) error {
	if !isID(id) {
		return fmt.Errorf("wal: replication id %q is not %d lower-case hex digits", id, idLen)
	}
	l.admin.Lock()
	defer l.admin.Unlock()
	if err := l.Sync(context.Background()); err != nil {
		return err
	}
	at := l.Durable()
	next := l.Lineage()
	if n := len(next); n > 0 {
		next[n-1].End = at
	}
	return l.apply(nil, append(next, LineageEntry{ID: id, Start: at, End: -1}))
}

// apply writes b, which it takes, and the lineage in one batch, durably.
func (l *Log) apply(b *pebble.Batch, lineage []LineageEntry) error {
	done, err := l.use()
	if err != nil {
		return err
	}
	defer done()
	if b == nil {
		b = l.db.NewBatch()
	}
	v, err := json.Marshal(lineage)
	if err == nil {
		err = b.Set(lineageKey, v, nil)
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	if err := l.writeMeta(b); err != nil {
		return err
	}
	l.mu.Lock()
	l.mu.lineage = lineage
	l.mu.Unlock()
	return l.settleMeta()
}
