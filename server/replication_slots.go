package server

import (
	"errors"

	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/wal"
)

// replSlots is where the primary keeps the log for named replicas: the engine's slots.
type replSlots struct{ s *Server }

// Attach implements replication.Slots.
func (r replSlots) Attach(name string, off wal.Offset) error { return r.s.eng.AttachSlot(name, off) }

// Move implements replication.Slots.
func (r replSlots) Move(name string, off wal.Offset) { r.s.eng.MoveSlot(name, off) }

// Detach implements replication.Slots.
func (r replSlots) Detach(name string) { r.s.eng.SlotActive(name, false) }

// parseReplicaName takes what a slot may be named, or nothing.
func parseReplicaName(words []string, _ string) (string, error) {
	if words[0] != "" && !engine.ValidSlotName(words[0]) {
		return "", errors.New("a replica's name is 1 to 64 of A-Z a-z 0-9 . _ : -")
	}
	return words[0], nil
}
