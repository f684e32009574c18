package engine

import (
	"strconv"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
)

// Keyspace notifications. Handlers note what has happened to keys (command/events.go). When the command is complete and its
// effects have their place in the log, each note becomes a message for each form that is asked for, which may leave once that
// place is durable (A1). A message is no record: replicas notify for themselves, since they run the same handlers, and recovery
// tells nobody.

// SetEvents says which events of keys are told from now on. REQUIRES: the lock.
func (e *Engine) SetEvents(ev command.Events) {
	e.events = ev
	e.ctx.SetEvents(ev)
}

// tellNotes tells of what the command that is complete has noted. REQUIRES: the lock.
func (e *Engine) tellNotes() {
	for _, n := range e.ctx.TakeNotes() {
		e.tellEvent(n)
	}
}

// tellKey tells of what happens to a key outside of any command. REQUIRES: the lock, its effect emitted.
func (e *Engine) tellKey(db *keyspace.DB, class command.Events, event string, key []byte) {
	if e.events&class == 0 {
		return
	}
	e.ctx.NotifyIn(db, class, event, key)
	e.tellNotes()
}

func (e *Engine) tellEvent(n command.Note) {
	if e.opts.OnMessage == nil {
		return
	}
	after := e.Told()
	each := func(channel, payload []byte) {
		e.opts.OnMessage(&Message{Channel: channel, Payload: payload, After: after})
	}
	if e.ctx.Wants(command.EventKeyspace) {
		e.channel = append(appendEventChannel(e.channel[:0], "__keyspace@", n.DB), n.Key...)
		each(e.channel, []byte(n.Event))
	}
	if e.ctx.Wants(command.EventKeyevent) {
		e.channel = append(appendEventChannel(e.channel[:0], "__keyevent@", n.DB), n.Event...)
		each(e.channel, n.Key)
	}
}

func appendEventChannel(dst []byte, form string, db int) []byte {
	return append(strconv.AppendInt(append(dst, form...), int64(db), 10), "__:"...)
}

// noteEvents keeps the events of a command of the stream until its record has been applied. What is replayed from the log has been
// told before, or by nobody: it is forgotten. REQUIRES: the lock, if the stream is live.
func (r *Replayer) noteEvents() {
	notes := r.e.ctx.TakeNotes()
	if !r.live {
		return
	}
	for _, n := range notes {
		n.Key = append([]byte(nil), n.Key...)
		r.told = append(r.told, streamEvent{before: len(r.messages), note: n})
	}
}

// streamEvent is an event of a record that is being applied, and how many of the record's messages come before it.
type streamEvent struct {
	before int
	note   command.Note
}
