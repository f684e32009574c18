package server

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

// HOLDFAST SLOTS: the slots that keep the log for named replicas while they are away. A replica with a name
// (replica-name) makes its own when it attaches; one can be made before, so that a copy of the data that is still being
// carried somewhere finds the log when it arrives.

// cmdHoldfastSlots is HOLDFAST SLOTS [LIST | CREATE name [offset] | DROP name].
func (s *session) cmdHoldfastSlots(args [][]byte) {
	w := s.conn.Out()
	switch {
	case len(args) == 2, len(args) == 3 && isWord(args[2], "list"):
		s.listSlots()
	case (len(args) == 4 || len(args) == 5) && isWord(args[2], "create"):
		off := wal.Offset(-1) // the durable end
		if len(args) == 5 {
			n, ok := command.ParseInt(args[4])
			if !ok || n < 0 {
				w.Error(reply.NotInt)
				return
			}
			off = wal.Offset(n)
		}
		name := string(args[3])
		s.slotChanged("created", name, s.eng.CreateSlot(name, off))
	case len(args) == 4 && isWord(args[2], "drop"):
		name := string(args[3])
		s.slotChanged("dropped", name, s.eng.DropSlot(name))
	default:
		w.Error(reply.Syntax)
	}
}

// slotChanged answers, and logs a change.
func (s *session) slotChanged(what, name string, err error) {
	w := s.conn.Out()
	if err == nil {
		s.srv.log.Info("slot "+what+" by a client", "slot", name)
		w.OK()
		return
	}
	log := s.eng.Log()
	switch {
	case errors.Is(err, engine.ErrSlotName):
		w.Error("ERR a slot's name is 1 to 64 of A-Z a-z 0-9 . _ : -")
	case errors.Is(err, engine.ErrSlotExists):
		w.Error("ERR there is a slot '" + name + "' already")
	case errors.Is(err, engine.ErrNoSlot):
		w.Error("ERR no such slot '" + oneLine(string(cString([]byte(name)))) + "'")
	case errors.Is(err, engine.ErrSlotActive):
		w.Error("ERR slot '" + name + "' belongs to a replica that is attached")
	case errors.Is(err, wal.ErrTrimmed):
		w.Error(fmt.Sprintf("ERR the log begins at offset %d", int64(log.First())))
	case errors.Is(err, wal.ErrFuture):
		w.Error(fmt.Sprintf("ERR the log is durable up to offset %d only", int64(log.Durable())))
	default:
		w.Error("ERR " + oneLine(err.Error()))
	}
}

func (s *session) listSlots() {
	w := s.conn.Out()
	all := s.eng.Slots()
	w.Array(len(all))
	for _, i := range all {
		w.Map(7)
		w.BulkString("name")
		w.BulkString(i.Name)
		w.BulkString("state")
		w.BulkString(slotState(i))
		w.BulkString("offset")
		w.Int(int64(i.Offset))
		w.BulkString("held-bytes")
		w.Int(i.Held)
		w.BulkString("created-ms")
		w.Int(i.Created.UnixMilli())
		w.BulkString("seen-ms")
		if i.Seen.IsZero() {
			w.Null()
		} else {
			w.Int(i.Seen.UnixMilli())
		}
		w.BulkString("reason")
		if i.Lost == "" {
			w.Null()
		} else {
			w.BulkString(i.Lost)
		}
	}
}

// slotState is a slot's state in a word.
func slotState(i engine.SlotInfo) string {
	switch {
	case i.Lost != "":
		return "lost"
	case i.Active:
		return "attached"
	}
	return "away"
}

// slotLine is a slot as INFO shows it.
func slotLine(i engine.SlotInfo, now time.Time) string {
	seen := "-1"
	if !i.Seen.IsZero() {
		seen = strconv.FormatInt(int64(max(0, now.Sub(i.Seen)).Seconds()), 10)
	}
	return fmt.Sprintf("name=%s,state=%s,offset=%d,held_bytes=%d,seen_seconds_ago=%s", i.Name, slotState(i), int64(i.Offset), i.Held, seen)
}
