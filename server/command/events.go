package command

import (
	"strings"

	"github.com/holdfast-db/holdfast/server/keyspace"
)

// Keyspace notifications: what happens to keys is told to subscribers of __keyspace@<db>__:<key> and __keyevent@<db>__:<event>.
//
// A handler says by Ctx.Notify what it has done, at the place where Redis does, and with its names. What is noted leaves when the
// command is complete, since it must not be heard of before its record is durable (A1); engine/notify.go tells how. Nothing of it
// enters the log: a replica has the same handlers.
//
// To add an event: call Notify behind the change. A key that comes into being is told of by the keyspace ("new").

// Events is a set of classes of events, and of the forms in which they are told.
type Events uint32

// The classes, and before them the two forms. A message is sent for each form that is set.
const (
	EventKeyspace Events = 1 << iota // K: to the channel of the key
	EventKeyevent                    // E: to the channel of the event
	EventGeneric                     // g: commands for all types, as DEL, EXPIRE, RENAME
	EventString                      // $
	EventList                        // l
	EventSet                         // s
	EventHash                        // h
	EventZSet                        // z
	EventExpired                     // x: a key whose time has come
	EventEvicted                     // e: a key that maxmemory-policy has deleted
	EventStream                      // t
	EventModule                      // d
	EventNew                         // n: a key that comes into being
	EventKeyMiss                     // m: a key that a reader has not found

	eventForms = EventKeyspace | EventKeyevent
	// EventAll is A: all classes but those two that tell of too much.
	EventAll = EventGeneric | EventString | EventList | EventSet | EventHash | EventZSet | EventExpired | EventEvicted |
		EventStream | EventModule
)

// eventLetters are the letters in the order in which Redis prints them; those of EventAll stand for themselves only where not
// all of them are set, and n likewise.
const eventLetters = "g$lshzxetdnKEm"

var eventBits = map[rune]Events{'K': EventKeyspace, 'E': EventKeyevent, 'g': EventGeneric, '$': EventString, 'l': EventList,
	's': EventSet, 'h': EventHash, 'z': EventZSet, 'x': EventExpired, 'e': EventEvicted, 't': EventStream, 'd': EventModule,
	'n': EventNew, 'm': EventKeyMiss, 'A': EventAll}

// ParseEvents parses the letters of notify-keyspace-events; ok is false if one has no meaning.
func ParseEvents(s string) (ev Events, ok bool) {
	for _, c := range s {
		bit := eventBits[c]
		if bit == 0 {
			return 0, false
		}
		ev |= bit
	}
	return ev, true
}

// String returns the letters in Redis's canonical form. As there, n is not shown beside A.
func (ev Events) String() string {
	var b strings.Builder
	if ev&EventAll == EventAll {
		b.WriteByte('A')
		ev &^= EventAll | EventNew
	}
	for _, c := range eventLetters {
		if ev&eventBits[c] != 0 {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// Note is an event that is to be told.
type Note struct {
	DB    int
	Event string
	Key   []byte // valid until the next command
}

// SetEvents says which events are told. Without a form there is nobody to tell.
func (c *Ctx) SetEvents(ev Events) {
	if ev&eventForms == 0 {
		ev = 0
	}
	c.events = ev
	c.KS.Announcing = ev&EventNew != 0
}

// Notify notes an event of a key in the command's database. key must stay valid until the command is complete.
func (c *Ctx) Notify(class Events, event string, key []byte) {
	if c.events&class != 0 {
		c.note(c.DB, event, key)
	}
}

// NotifyIn is Notify in another database.
func (c *Ctx) NotifyIn(db *keyspace.DB, class Events, event string, key []byte) {
	if c.events&class != 0 {
		c.note(db, event, key)
	}
}

func (c *Ctx) note(db *keyspace.DB, event string, key []byte) {
	c.notes = append(c.notes, Note{db.Index(), event, key})
}

// Created notes that a key has come into being; the engine has the keyspace call it.
func (c *Ctx) Created(db int, key string) {
	c.notes = append(c.notes, Note{db, "new", []byte(key)})
}

// TakeNotes returns what has been noted, and forgets it: it is valid until the next command.
func (c *Ctx) TakeNotes() []Note {
	notes := c.notes
	c.notes = c.notes[:0]
	return notes
}

// Wants tells in which forms events are told.
func (c *Ctx) Wants(form Events) bool { return c.events&form != 0 }
