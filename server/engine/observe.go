package engine

import "github.com/holdfast-db/holdfast/server/command"

// KeyObserver is told which keys clients read and which change: what client-side caching is made of. All calls come under the
// executor lock.
type KeyObserver interface {
	// Read: a command that only reads has been executed for a client with Client.Tracking. args are valid during the call.
	Read(cl *Client, spec *command.Spec, args [][]byte)
	// Changed: a key is about to change. by is the client whose command does it; nil: expiry, eviction, a primary's stream.
	Changed(by *Client, key string)
	// Flushed: a database is emptied, exchanged with another, or all data are replaced.
	Flushed()
	// Executed: a command is complete; its record may not be.
	Executed()
	// Released: the lock is about to be let go of.
	Released()
}

// Observe tells o of keys from now on; nil ends it. REQUIRES: the lock.
func (e *Engine) Observe(o KeyObserver) {
	e.observer = o
	e.setWatching()
}

// setWatching makes the keyspace report changes while anybody wants to know. REQUIRES: the lock.
func (e *Engine) setWatching() { e.ks.Watching = len(e.watched) > 0 || e.observer != nil }

// observeRead tells the observer of a command that has been executed. REQUIRES: the lock.
func (e *Engine) observeRead(cl *Client, spec *command.Spec, args [][]byte) {
	if e.observer != nil && cl.Tracking && spec.Flags&command.FlagReadonly != 0 {
		e.observer.Read(cl, spec, args)
	}
}
