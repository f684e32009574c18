package wal

import (
	"context"
	"encoding/json"
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

func (l *Log) loadLineage() error {
	v, err := get(l.db, lineageKey)
	if err != nil || v == nil {
		return err
	}
	if err := json.Unmarshal(v, &l.mu.lineage); err != nil {
		return &CorruptionError{0, fmt.Errorf("lineage: %w", err)}
	}
	return nil
}

// Lineage returns all ids, oldest first; the last is the current one.
func (l *Log) Lineage() []LineageEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.mu.lineage)
}

// BeginID ends the current id at the durable end and begins id there, durably (W3). Nothing may be appended meanwhile.
func (l *Log) BeginID(id string) error {
	if len(id) != 40 {
		return fmt.Errorf("wal: replication id of %d characters", len(id))
	}
	if err := l.Sync(context.Background()); err != nil {
		return err
	}
	at := l.Durable()
	next := l.Lineage()
	if n := len(next); n > 0 {
		next[n-1].End = at
		if next[n-1].Start == at {
			// Nothing was written under it, so nobody can stand within it, but a replica may have been told its name.
			next[n-1].End = at
		}
	}
	next = append(next, LineageEntry{ID: id, Start: at, End: -1})
	return l.setLineage(next)
}

func (l *Log) setLineage(next []LineageEntry) error {
	v, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := l.db.Set(lineageKey, v, pebble.Sync); err != nil {
		return err
	}
	if err := l.fatal.err(); err != nil {
		return err
	}
	l.mu.Lock()
	l.mu.lineage = next
	l.mu.Unlock()
	return nil
}
